/** Send requests, and decide whether to send one again. */

import { ConfigurationError, DovecoteError, Problem, UnexpectedResponse, Unreachable } from "./errors.js";
import { VERSION } from "./version.js";

/** Milliseconds before each further attempt; the last value repeats. */
export const PAUSES: readonly number[] = [200, 500, 1000, 2000, 4000];
/** Milliseconds after which a call that waits for a task or for events stops trying: the server may be restarted meanwhile. */
export const RETRY_WAITING_FOR_MS = 300_000;
/** The same while the client cannot connect and the server has never responded: probably nothing listens there. */
export const RETRY_CONNECTING_FOR_MS = 1000;
/** The longest pause that a server may ask for. */
export const MAX_RETRY_AFTER_MS = 60_000;

const DEFAULT_URL = "http://127.0.0.1:8080";
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Codes of the system and of Node's fetch for a connection that was never made. */
const NEVER_SENT: ReadonlySet<string> = new Set([
  "ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "EADDRNOTAVAIL", "UND_ERR_CONNECT_TIMEOUT",
  "ERR_TLS_CERT_ALTNAME_INVALID", "DEPTH_ZERO_SELF_SIGNED_CERT", "SELF_SIGNED_CERT_IN_CHAIN", "CERT_HAS_EXPIRED",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
]);

/** The settings of a client. */
export interface Options {
  /** The URL of the server; default: the environment variable `DOVECOTE_URL`, else `http://127.0.0.1:8080`. */
  readonly url?: string;
  /** The API key; default: the environment variable `DOVECOTE_API_KEY`. An empty text for none. */
  readonly apiKey?: string;
  /** Milliseconds to wait for a response; default: 30 s. */
  readonly timeoutMs?: number;
  /** Milliseconds for which a request is repeated; default: 15 s. 0 for a single attempt. */
  readonly retryForMs?: number;
  /** Called before each repetition with the error and the milliseconds until then. */
  readonly onRetry?: (error: DovecoteError, pauseMs: number) => void;
  /** The function that sends requests; default: the global `fetch`. */
  readonly fetch?: typeof globalThis.fetch;
}

/** The settings of one call. */
export interface CallOptions {
  /** Ends the call, which then throws the reason of the signal. */
  readonly signal?: AbortSignal | undefined;
}

/** A request. */
export interface Spec {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: object;
  /** A body as JSON. */
  readonly json?: unknown;
  /** A body of bytes, in place of JSON. */
  readonly bytes?: Blob | Uint8Array<ArrayBuffer> | ArrayBuffer;
  readonly headers?: Readonly<Record<string, string>>;
  /** Milliseconds that the server may take in addition to the timeout. */
  readonly waitsMs?: number;
}

/** How a request is sent. */
export interface Sending extends CallOptions {
  /** False where a second execution would do harm: then it is sent again only if the server certainly has not executed it. */
  readonly repeatable?: boolean;
  /** Milliseconds after which no further attempt is made; default: that of the client. */
  readonly retryForMs?: number;
}

/** A response with its whole body. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: string;
}

/** The connection of a client to its server. */
export class Connection {
  readonly url: string;
  /** Whether the server has ever responded. */
  reached = false;
  readonly #key: string | null;
  readonly #timeoutMs: number;
  readonly #retryForMs: number;
  readonly #onRetry: Options["onRetry"];
  readonly #fetch: typeof globalThis.fetch;

  /** @throws {ConfigurationError} when the URL or the API key is not usable */
  constructor(options: Options) {
    this.url = usableUrl(options.url || environment("DOVECOTE_URL") || DEFAULT_URL);
    this.#key = usableKey(options.apiKey ?? environment("DOVECOTE_API_KEY") ?? "");
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.#retryForMs = options.retryForMs ?? 15_000;
    this.#onRetry = options.onRetry;
    this.#fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
  }

  /**
   * Send a request until a success comes back, and return the document.
   *
   * @param request or a function that makes it anew for each attempt
   */
  async json<Document>(request: Spec | (() => Spec), sending: Sending = {}): Promise<Document> {
    return documentOf(await this.send(request, sending)) as Document;
  }

  /** Send a request until a success comes back. */
  async send(request: Spec | (() => Spec), sending: Sending = {}): Promise<Answer> {
    const began = performance.now();
    let limit = sending.retryForMs ?? this.#retryForMs;
    for (let attempt = 0; ; attempt += 1) {
      const error = await this.#attempt(typeof request === "function" ? request() : request, sending);
      if (!(error instanceof DovecoteError)) return error;
      const pause = Math.max(pauseOf(attempt), Math.min(error.retryAfterMs, MAX_RETRY_AFTER_MS));
      const allowed = error.transient && ((sending.repeatable ?? true) || !mayBeDone(error));
      if (this.nothingListens(error)) limit = Math.min(limit, RETRY_CONNECTING_FOR_MS);
      if (!allowed || performance.now() - began + pause > limit) throw error;
      await this.pause(error, pause, sending.signal);
    }
  }

  /** Wait before another attempt. */
  async pause(error: DovecoteError, milliseconds: number, signal?: AbortSignal): Promise<void> {
    this.#onRetry?.(error, milliseconds);
    await sleep(milliseconds, signal);
  }

  /** Return whether probably no server is there: no connection was made, and the server has never responded. */
  nothingListens(error: DovecoteError): boolean {
    return error instanceof Unreachable && !error.sent && !this.reached;
  }

  /**
   * Send a request once, and return the response when its head has arrived.
   *
   * @throws {Unreachable} when no response came
   */
  async open(request: Spec, signal: AbortSignal | undefined): Promise<Response> {
    try {
      const response = await this.#fetch(this.url + request.path + queryOf(request.query ?? {}), {
        method: request.method,
        headers: this.#headers(request),
        redirect: "manual", // the key goes to this server only
        signal: signal ?? null,
        ...bodyOf(request),
      });
      this.reached = true;
      return response;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw this.unreachable(error);
    }
  }

  /** Open a URL at another host, which gets no API key. */
  async openElsewhere(url: URL, signal: AbortSignal | undefined): Promise<Response> {
    try {
      return await this.#fetch(url, { signal: signal ?? null });
    } catch (error) {
      signal?.throwIfAborted();
      throw this.unreachable(error);
    }
  }

  /** Return the error for a request without a response. */
  unreachable(error: unknown): Unreachable {
    const code = codeOf(error);
    const reason = code ?? (error instanceof Error ? error.message : String(error));
    return code !== null && NEVER_SENT.has(code)
      ? new Unreachable(`cannot connect to ${this.url} (${reason})`, false, { cause: error })
      : new Unreachable(`${this.url} gave no response (${reason})`, true, { cause: error });
  }

  async #attempt(request: Spec, { signal }: CallOptions): Promise<Answer | DovecoteError> {
    signal?.throwIfAborted();
    const timeout = AbortSignal.timeout(Math.min(this.#timeoutMs + (request.waitsMs ?? 0), MAX_DELAY_MS));
    try {
      const response = await this.open(request, signal ? AbortSignal.any([signal, timeout]) : timeout);
      const answer = { status: response.status, headers: response.headers, body: await response.text() };
      return response.ok ? answer : refusalOf(answer);
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      return error instanceof DovecoteError ? error : this.unreachable(error);
    }
  }

  #headers(request: Spec): Record<string, string> {
    const headers: Record<string, string> = { accept: "application/json", "user-agent": `dovecote-typescript/${VERSION}` };
    if (this.#key !== null) headers["authorization"] = `Bearer ${this.#key}`;
    if (request.json !== undefined) headers["content-type"] = "application/json";
    if (request.bytes !== undefined) headers["content-type"] = "application/octet-stream";
    return { ...headers, ...request.headers };
  }
}

/** Return the milliseconds before an attempt, by the number of those that failed before. */
export function pauseOf(failures: number): number {
  return PAUSES[Math.min(failures, PAUSES.length - 1)] ?? 0;
}

/** Wait for some milliseconds, or until a signal. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const end = () => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", end);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", end, { once: true });
  });
}

/** Return the error for a response that is not a success. */
export function refusalOf(answer: Answer): Problem | UnexpectedResponse {
  const stated = answer.headers.get("retry-after") ?? "";
  const retryAfterMs = /^\d{1,9}$/.test(stated) ? Number(stated) * 1000 : 0;
  try {
    const document = JSON.parse(answer.body);
    if (typeof document.code === "string") {
      return new Problem(answer.status, document.code, String(document.detail ?? ""), document, retryAfterMs);
    }
  } catch {
    // not JSON: not a response of Dovecote
  }
  return new UnexpectedResponse(answer.status, answer.body, retryAfterMs);
}

/** Parse the body of a success. */
export function documentOf(answer: Answer): unknown {
  try {
    const document: unknown = JSON.parse(answer.body);
    if (typeof document === "object" && document !== null) return document;
  } catch {
    // as below
  }
  throw new UnexpectedResponse(answer.status, answer.body);
}

/** Return whether the server may have executed the request before the error. */
function mayBeDone(error: DovecoteError): boolean {
  if (error instanceof Unreachable) return error.sent;
  return !(error instanceof Problem && error.status === 429);
}

function queryOf(query: object): string {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query) as [string, unknown][]) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined && each !== null) found.append(name, String(each));
    }
  }
  const text = found.toString();
  return text ? `?${text}` : "";
}

function bodyOf(request: Spec): { body?: BodyInit } {
  if (request.bytes !== undefined) return { body: request.bytes };
  return request.json === undefined ? {} : { body: JSON.stringify(request.json) };
}

function codeOf(error: unknown): string | null {
  for (let each = error; each instanceof Error; each = each.cause) {
    const { code } = each as { code?: unknown };
    if (typeof code === "string") return code;
  }
  return null;
}

function environment(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name];
}

function usableUrl(text: string): string {
  const trimmed = text.trim().replace(/\/+$/, "");
  const url = URL.canParse(trimmed) ? new URL(trimmed) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    throw new ConfigurationError(
      "the URL of Dovecote must be an http(s) URL without user and password, such as http://127.0.0.1:8080: check DOVECOTE_URL",
    );
  }
  return trimmed;
}

function usableKey(text: string): string | null {
  const key = text.trim();
  if (!/^[\x21-\x7e]*$/.test(key)) {
    throw new ConfigurationError("the API key contains characters that no API key has: check DOVECOTE_API_KEY");
  }
  return key || null;
}
