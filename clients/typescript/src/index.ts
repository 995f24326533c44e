/** The client of Dovecote, and the verification of its webhooks. */

export { Dovecote, type FeedOptions, type SubmitOptions, type Submitted, type WaitOptions } from "./client.js";
export type { CallOptions, Options } from "./connection.js";
export {
  ConfigurationError, DovecoteError, InvalidWebhook, Problem, UnexpectedResponse, Unreachable, WaitTimeout,
} from "./errors.js";
export type { Callbacks, Endpoints, Messages, Results, Uploads, WebhookSecrets } from "./resources.js";
export type { components, operations, paths } from "./schema.js";
export type { StreamOptions } from "./streams.js";
export * from "./types.js";
export { VERSION } from "./version.js";
export { type VerifyOptions, type Webhook, type WebhookHeaders, verifyWebhook } from "./webhooks.js";
