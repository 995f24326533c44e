/** The documents of the API, by the names that Dovecote's OpenAPI document gives them. */

import type { components, operations } from "./schema.js";

type Schemas = components["schemas"];

export type Task = Schemas["Task"];
export type TaskState = Task["state"];
export type TaskRequest = Schemas["TaskRequest"];
/** An entry of the history of a task. */
export type TaskEvent = Schemas["Event"];
/** An event of the feed. */
export type FeedEvent = Schemas["FeedEvent"];
export type Result = Schemas["Result"];
export type ResultLink = Schemas["ResultLink"];
export type Provenance = Schemas["Provenance"];
export type Upload = Schemas["Upload"];
export type Erasure = Schemas["Erasure"];
export type ErasureRequest = Schemas["ErasureRequest"];
export type QuoteList = Schemas["QuoteList"];
export type BudgetRow = Schemas["BudgetRow"];
export type Usage = Schemas["Usage"];
export type Claim = Schemas["Claim"];
export type ClaimMark = Schemas["ClaimMark"];
export type Endpoint = Schemas["Endpoint"];
export type EndpointWithSecret = Schemas["EndpointWithSecret"];
export type EndpointRequest = Schemas["EndpointRequest"];
export type EndpointChange = Schemas["EndpointChange"];
export type Message = Schemas["Message"];
export type MessageWithDeliveries = Schemas["MessageWithDeliveries"];
export type ReplayRequest = Schemas["ReplayRequest"];
export type WebhookSecret = Schemas["WebhookSecret"];
export type StoredCallback = Schemas["StoredCallback"];
export type WholeCallback = Schemas["WholeCallback"];
export type Family = Schemas["Family"];
export type Upstream = Schemas["Upstream"];
export type ModelList = Schemas["ModelList"];
export type ProblemDocument = Schemas["Problem"];
export type FieldError = Schemas["Mistake"];

/** The parameters of a query of an operation. */
type Query<Name extends keyof operations> = NonNullable<operations[Name]["parameters"]["query"]>;
/** The same, without those that the client itself sets. */
type Filters<Name extends keyof operations> = Omit<Query<Name>, "cursor">;

/** Which tasks a list contains. */
export type TaskFilters = Omit<Filters<"listTasks">, "label"> & {
  /** Only tasks with all of these labels. */
  readonly labels?: Readonly<Record<string, string>>;
};
/** Which messages a list contains. */
export type MessageFilters = Filters<"listMessages">;
/** Which callbacks a list contains. */
export type CallbackFilters = Filters<"listCallbacks">;
/** Which claims a list contains. */
export type ClaimFilters = Filters<"listClaims">;
/** How many uploads a page contains. */
export type UploadFilters = Filters<"listUploads">;
/** What a sum of expenses contains. */
export type UsageFilters = Omit<Query<"getUsage">, "format">;

/** One page of a list. */
export interface Page<Item> {
  readonly items: readonly Item[];
  /** The `cursor` of the next page; null on the last one. */
  readonly next: string | null;
}

/** A value with an id, or the id itself. */
export type OrId<Value extends { readonly id: string }> = string | Pick<Value, "id">;

/** The states in which a task has ended. */
export const ENDED: ReadonlySet<TaskState> = new Set<TaskState>(["succeeded", "failed", "cancelled", "expired"]);

/** Return whether a task has ended. */
export function hasEnded(task: Pick<Task, "state">): boolean {
  return ENDED.has(task.state);
}

/** Return the URLs of the results of a task, without covers, previews and other extras. */
export function resultUrls(task: Pick<Task, "results">): string[] {
  return task.results.flatMap((result) => (result.role === "result" && result.url != null ? [result.url] : []));
}
