/** The client. */

import { type CallOptions, Connection, type Options, RETRY_WAITING_FOR_MS, type Spec, documentOf, sleep } from "./connection.js";
import { ConfigurationError, DovecoteError, WaitTimeout } from "./errors.js";
import { every, idOf, pageOf } from "./lists.js";
import { Callbacks, Endpoints, Messages, Results, Uploads, WebhookSecrets } from "./resources.js";
import { type StreamOptions, streamOf } from "./streams.js";
import {
  type BudgetRow, type Claim, type ClaimFilters, type ClaimMark, type Erasure, type ErasureRequest, type Family,
  type FeedEvent, type ModelList, type OrId, type Page, type QuoteList, type Task, type TaskEvent, type TaskFilters,
  type TaskRequest, type Upstream, type Usage, type UsageFilters, hasEnded,
} from "./types.js";

/** Seconds that one request waits at the server. */
const LONGEST_POLL = 30;

/** A task that was submitted. */
export type Submitted = Task & {
  /** Whether the idempotency key was known, so that this is the task of an earlier request. */
  readonly replayed: boolean;
};

/** How a task is submitted. */
export interface SubmitOptions extends CallOptions {
  /** Your own id of this request, if your program may repeat it; default: a new one. */
  readonly idempotencyKey?: string;
}

/** How long a task is waited for. */
export interface WaitOptions extends CallOptions {
  /** Milliseconds; default: no limit. */
  readonly timeoutMs?: number;
}

/** Which events of the feed are read. */
export interface FeedOptions extends StreamOptions {
  /** Whether to wait for further events at the end, without ever stopping. */
  readonly follow?: boolean;
}

/**
 * A client of one Dovecote.
 *
 * A request that is safe to repeat is repeated while the server is away or busy. Every submit has an idempotency key, so that it
 * is one task and one purchase.
 */
export class Dovecote {
  readonly endpoints: Endpoints;
  readonly messages: Messages;
  readonly callbacks: Callbacks;
  readonly webhookSecret: WebhookSecrets;
  readonly uploads: Uploads;
  readonly results: Results;
  readonly #connection: Connection;

  /** @throws {ConfigurationError} when the URL or the API key is not usable */
  constructor(options: Options = {}) {
    this.#connection = new Connection(options);
    this.endpoints = new Endpoints(this.#connection);
    this.messages = new Messages(this.#connection);
    this.callbacks = new Callbacks(this.#connection);
    this.webhookSecret = new WebhookSecrets(this.#connection);
    this.uploads = new Uploads(this.#connection);
    this.results = new Results(this.#connection);
  }

  /**
   * Submit a task. It is one task and one purchase, even when the request must be repeated.
   *
   * @throws {Problem} when the server refuses the request; `errors` has every mistake
   */
  async submit(request: TaskRequest, options: SubmitOptions = {}): Promise<Submitted> {
    const headers = { "idempotency-key": usableIdempotencyKey(options.idempotencyKey) };
    const answer = await this.#connection.send({ method: "POST", path: "/v1/tasks", json: request, headers }, options);
    const replayed = answer.headers.get("idempotency-replayed") === "true";
    return { ...(documentOf(answer) as Task), replayed };
  }

  /** Return what each upstream is expected to charge for a task. Nothing is bought. */
  quote(request: TaskRequest, options: CallOptions = {}): Promise<QuoteList> {
    return this.#connection.json({ method: "POST", path: "/v1/quote", json: request }, options);
  }

  /** Get a task. With `waitSeconds` (up to 60), the server answers when it has ended, or after that time. */
  get(task: OrId<Task>, options: CallOptions & { readonly waitSeconds?: number } = {}): Promise<Task> {
    const { waitSeconds: wait = 0 } = options;
    const request: Spec = { method: "GET", path: taskPath(task), query: wait ? { wait } : {}, waitsMs: wait * 1000 };
    return this.#connection.json(request, wait ? { ...options, retryForMs: RETRY_WAITING_FOR_MS } : options);
  }

  /**
   * Wait until a task has ended, across restarts of the server.
   *
   * @throws {WaitTimeout} when it has not ended in time; the task itself goes on
   */
  async wait(task: OrId<Task>, options: WaitOptions = {}): Promise<Task> {
    const { timeoutMs = Infinity, signal } = options;
    const until = performance.now() + timeoutMs;
    const left = () => Math.max(until - performance.now(), 0);
    const path = taskPath(task);
    const request = (): Spec => {
      const wait = Math.floor(Math.min(left() / 1000, LONGEST_POLL));
      return { method: "GET", path, query: { wait }, waitsMs: wait * 1000 };
    };
    let seen: Task | null = null;
    for (;;) {
      const retryForMs = Math.min(RETRY_WAITING_FOR_MS, left());
      try {
        seen = await this.#connection.json<Task>(request, { signal, retryForMs });
      } catch (error) {
        const outOfTime = error instanceof DovecoteError && error.transient && retryForMs < RETRY_WAITING_FOR_MS;
        if (outOfTime && !this.#connection.nothingListens(error)) throw new WaitTimeout(seen, timeoutMs, { cause: error });
        throw error;
      }
      if (hasEnded(seen)) return seen;
      if (left() === 0) throw new WaitTimeout(seen, timeoutMs);
      if (left() < 1000) await sleep(left(), signal); // the server counts in whole seconds
    }
  }

  /** Yield a task now and after every change of its state, progress or explanation, until it has ended. */
  async *watch(task: OrId<Task>, options: CallOptions = {}): AsyncGenerator<Task> {
    let seen: Task | null = null;
    while (seen === null || !hasEnded(seen)) {
      const now: Task = await this.get(task, { ...options, waitSeconds: seen === null ? 0 : 1 });
      if (seen === null || visible(now) !== visible(seen)) yield now;
      seen = now;
    }
  }

  /** Yield tasks, newest first. Further pages are loaded as needed. */
  list(filters: TaskFilters = {}, options: CallOptions = {}): AsyncGenerator<Task> {
    return every((cursor) => this.page({ ...filters, cursor }, options));
  }

  /** Get one page of tasks, newest first. */
  page(filters: TaskFilters & { readonly cursor?: string | undefined } = {}, options: CallOptions = {}): Promise<Page<Task>> {
    const { labels = {}, ...others } = filters;
    const label = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
    return pageOf(this.#connection, "/v1/tasks", "tasks", { ...others, label }, options);
  }

  /** List the events of a task, oldest first, at most 1000. */
  async history(task: OrId<Task>, after = 0, options: CallOptions = {}): Promise<readonly TaskEvent[]> {
    const path = `${taskPath(task)}/events`;
    return (await pageOf<TaskEvent>(this.#connection, path, "events", after ? { after } : {}, options)).items;
  }

  /** Cancel a task and return it. It may end a little later, or may have ended already. */
  cancel(task: OrId<Task>, options: CallOptions = {}): Promise<Task> {
    return this.#connection.json({ method: "POST", path: `${taskPath(task)}/cancel` }, options);
  }

  /** Query the provider about a task now, outside the schedule, and return the task. */
  refresh(task: OrId<Task>, options: CallOptions = {}): Promise<Task> {
    return this.#connection.json({ method: "POST", path: `${taskPath(task)}/refresh` }, options);
  }

  /** Send the input that a task in `awaiting_input` waits for, as the schema in `task.awaits.input` describes it. */
  sendInput(task: OrId<Task>, input: Readonly<Record<string, unknown>>, options: CallOptions = {}): Promise<Task> {
    const request: Spec = { method: "POST", path: `${taskPath(task)}/input`, json: input };
    return this.#connection.json(request, { ...options, repeatable: false });
  }

  /** Submit an `unconfirmed` task again. You confirm that it may be paid for twice. */
  retry(task: OrId<Task>, confirm: { readonly confirmDoublePayment: true }, options: CallOptions = {}): Promise<Task> {
    const json = { confirm_double_payment: confirm.confirmDoublePayment };
    const request: Spec = { method: "POST", path: `${taskPath(task)}/retry`, json };
    return this.#connection.json(request, { ...options, repeatable: false });
  }

  /** Erase the content of a task. With `cancel`, an open task is cancelled; else it is erased when it has ended. */
  erase(task: OrId<Task>, options: CallOptions & { readonly cancel?: boolean } = {}): Promise<Erasure> {
    const query = options.cancel ? { cancel: true } : {};
    return this.#connection.json({ method: "DELETE", path: taskPath(task), query }, options);
  }

  /** Erase the content of all tasks that have all of some labels, such as those of a person. */
  eraseLabelled(request: ErasureRequest, options: CallOptions = {}): Promise<Erasure> {
    return this.#connection.json({ method: "POST", path: "/v1/erasures", json: request }, options);
  }

  /** Get the progress of an erasure. */
  erasure(id: string, options: CallOptions = {}): Promise<Erasure> {
    return this.#connection.json({ method: "GET", path: `/v1/erasures/${idOf(id)}` }, options);
  }

  /** Yield the events of all tasks, oldest first, each once; by default those that exist, from the beginning. */
  async *events(options: FeedOptions = {}): AsyncGenerator<FeedEvent> {
    const { follow = false, types = [], signal } = options;
    const wait = follow ? LONGEST_POLL : 0;
    const sending = follow ? { signal, retryForMs: RETRY_WAITING_FOR_MS } : { signal };
    let after = options.after ?? "0";
    for (;;) {
      const query = { after, type: types, limit: 100, ...(wait ? { wait } : {}) };
      const request: Spec = { method: "GET", path: "/v1/events", query, waitsMs: wait * 1000 };
      const page = await this.#connection.json<{ events: FeedEvent[]; next: string | null }>(request, sending);
      yield* page.events;
      after = page.next ?? after;
      if (page.events.length === 0 && !follow) return;
    }
  }

  /** Yield events as they happen: of one task from its beginning to its end, else of all tasks from now on. */
  stream(task: OrId<Task> | null = null, options: StreamOptions = {}): AsyncGenerator<FeedEvent> {
    return streamOf(this.#connection, task === null ? "/v1/events/stream" : `${taskPath(task)}/stream`, options);
  }

  /** List the families, with their operations and the schema of each input. */
  async families(options: CallOptions = {}): Promise<readonly Family[]> {
    return (await pageOf<Family>(this.#connection, "/v1/families", "families", {}, options)).items;
  }

  /** List the upstreams: what they serve, their limits, and whether they work. */
  async upstreams(options: CallOptions = {}): Promise<readonly Upstream[]> {
    return (await pageOf<Upstream>(this.#connection, "/v1/upstreams", "upstreams", {}, options)).items;
  }

  /** List the models that an upstream offers now. */
  models(upstream: string, options: CallOptions = {}): Promise<ModelList> {
    return this.#connection.json({ method: "GET", path: `/v1/upstreams/${idOf(upstream)}/models` }, options);
  }

  /** Submit nothing to an upstream: its tasks wait for it (`pause`), or the next one of their route serves them (`drain`). */
  hold(upstream: string, how: "pause" | "drain", options: CallOptions = {}): Promise<Upstream> {
    return this.#connection.json({ method: "POST", path: `/v1/upstreams/${idOf(upstream)}/${how}` }, options);
  }

  /** Resume an upstream. */
  resume(upstream: string, options: CallOptions = {}): Promise<Upstream> {
    return this.#connection.json({ method: "POST", path: `/v1/upstreams/${idOf(upstream)}/resume` }, options);
  }

  /** Return what was spent. Amounts of different units are in different rows. */
  usage(filters: UsageFilters = {}, options: CallOptions = {}): Promise<Usage> {
    return this.#connection.json({ method: "GET", path: "/v1/usage", query: filters }, options);
  }

  /** List your budgets: what is spent, held and left. */
  async budgets(options: CallOptions = {}): Promise<readonly BudgetRow[]> {
    return (await pageOf<BudgetRow>(this.#connection, "/v1/budgets", "budgets", {}, options)).items;
  }

  /** Yield what was charged and not delivered, newest first. It needs the scope `admin`. */
  claims(filters: ClaimFilters = {}, options: CallOptions = {}): AsyncGenerator<Claim> {
    return every((cursor) => pageOf(this.#connection, "/v1/claims", "claims", { ...filters, cursor }, options));
  }

  /** Note what became of a claim. */
  markClaim(submission: string, mark: ClaimMark, options: CallOptions = {}): Promise<Claim> {
    return this.#connection.json({ method: "POST", path: `/v1/claims/${idOf(submission)}`, json: mark }, options);
  }
}

function taskPath(task: OrId<Task>): string {
  return `/v1/tasks/${idOf(task)}`;
}

function visible(task: Task): string {
  return JSON.stringify([task.state, task.progress, task.explanation]);
}

function usableIdempotencyKey(key: string | undefined): string {
  if (key === undefined) return crypto.randomUUID();
  if (!/^[\x20-\x7e]{1,255}$/.test(key)) throw new ConfigurationError("an idempotency key has 1 to 255 printable ASCII characters");
  return key;
}
