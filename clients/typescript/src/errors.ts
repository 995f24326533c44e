/** The errors of the client. All of them are instances of {@link DovecoteError}. */

import type { FieldError, ProblemDocument, Task } from "./types.js";

const TRANSIENT: ReadonlySet<number> = new Set([429, 502, 503, 504]);
const QUOTED = 80;

/** Every error of this client. */
export class DovecoteError extends Error {
  /** Whether the same request may succeed a moment later. */
  readonly transient: boolean = false;
  /** Milliseconds after which the server allows the next attempt; 0 if it states none. */
  readonly retryAfterMs: number = 0;

  override get name(): string {
    return this.constructor.name;
  }
}

/** The URL, the API key or a webhook secret is not usable. Nothing was sent. */
export class ConfigurationError extends DovecoteError {}

/** The server refused the request with an RFC 9457 problem. */
export class Problem extends DovecoteError {
  override readonly transient: boolean;

  constructor(
    readonly status: number,
    /** Stable: base decisions on it. */
    readonly code: string,
    readonly detail: string,
    /** The whole problem. */
    readonly document: ProblemDocument,
    override readonly retryAfterMs: number = 0,
  ) {
    super(`${code} (${status}): ${detail}`);
    this.transient = TRANSIENT.has(status);
  }

  /** Every mistake in the request. */
  get errors(): readonly FieldError[] {
    return this.document.errors ?? [];
  }
}

/** The response is not Dovecote's. A proxy on the way sent it, or another service listens at the URL. */
export class UnexpectedResponse extends DovecoteError {
  override readonly transient: boolean;

  constructor(
    readonly status: number,
    body: string,
    override readonly retryAfterMs: number = 0,
  ) {
    const quoted = body ? `${JSON.stringify(body.slice(0, QUOTED))}${body.length > QUOTED ? "…" : ""}` : "an empty body";
    super(`HTTP ${status} with ${quoted} is not a response of Dovecote: check the URL and any proxy`);
    this.transient = TRANSIENT.has(status);
  }
}

/**
 * No response came. The server may have carried out the request all the same: with the same idempotency key it does not do
 * so twice.
 */
export class Unreachable extends DovecoteError {
  override readonly transient: boolean = true;

  constructor(
    message: string,
    /** Whether the request may have reached the server; false where no connection was made. */
    readonly sent: boolean = true,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The task has not ended within the time. The task itself goes on. */
export class WaitTimeout extends DovecoteError {
  constructor(
    /** The task as it was last seen; null where no response came. */
    readonly task: Task | null,
    milliseconds: number,
    options?: ErrorOptions,
  ) {
    const known = task === null ? "its state is unknown" : `it is ${task.state}: ${task.explanation}`;
    super(`the task has not ended after ${milliseconds / 1000} s; ${known}`, options);
  }
}

/** A webhook that Dovecote did not sign, or that is too old. Respond with 401 and do nothing else. */
export class InvalidWebhook extends DovecoteError {}
