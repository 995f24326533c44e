/** Read a stream of events over as many connections as it takes. */

import {
  type Connection, type Spec, MAX_RETRY_AFTER_MS, RETRY_CONNECTING_FOR_MS, RETRY_WAITING_FOR_MS, pauseOf, refusalOf,
} from "./connection.js";
import { DovecoteError, UnexpectedResponse, Unreachable } from "./errors.js";
import { Parser } from "./sse.js";
import type { FeedEvent } from "./types.js";

/** Milliseconds without any data after which a connection counts as lost; the server sends a comment every 15 s. */
const SILENCE_MS = 45_000;

/** Where a stream begins and which events it has. */
export interface StreamOptions {
  /** The `id` of the event to continue after. */
  readonly after?: string;
  /** Only events of these types; for all tasks only. */
  readonly types?: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

/**
 * Yield the events of a stream. A lost connection is made again; no event is lost or repeated.
 *
 * An event counts as processed when the next one is asked for.
 */
export async function* streamOf(connection: Connection, path: string, options: StreamOptions): AsyncGenerator<FeedEvent> {
  const { signal, types = [] } = options;
  let parser = new Parser(options.after ?? null);
  let lastId = options.after ?? null;
  let lastData = performance.now();
  let failures = 0;
  for (;;) {
    const silence = new Silence(signal);
    let failure: DovecoteError;
    try {
      parser = new Parser(lastId, parser.retryMs);
      const response = await connection.open(requestOf(path, types, lastId), silence.signal);
      if (response.status === 204) return;
      for await (const piece of piecesOf(await eventStreamOf(response))) {
        silence.heard();
        lastData = performance.now();
        failures = 0;
        for (const block of parser.feed(piece)) {
          if (block.type === "end") return;
          yield eventOf(block.data);
          lastId = block.id;
        }
        lastId = parser.lastId; // the feed sends a cursor before any event
      }
      failure = new Unreachable("the stream ended before the task did");
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof RangeError) throw new UnexpectedResponse(200, error.message);
      failure = error instanceof DovecoteError ? error : connection.unreachable(error);
    } finally {
      silence.end();
    }
    const limit = connection.nothingListens(failure) ? RETRY_CONNECTING_FOR_MS : RETRY_WAITING_FOR_MS;
    const pause = Math.max(pauseOf(failures), Math.min(failure.retryAfterMs, MAX_RETRY_AFTER_MS), parser.retryMs ?? 0);
    if (!failure.transient || performance.now() - lastData + pause > limit) throw failure;
    failures += 1;
    await connection.pause(failure, pause, signal);
  }
}

/** Ends a connection on which nothing comes for too long, or when the caller's signal says so. */
class Silence {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #abort = () => this.#controller.abort(this.#outer?.reason);

  constructor(outer: AbortSignal | undefined) {
    this.#outer = outer;
    outer?.throwIfAborted();
    outer?.addEventListener("abort", this.#abort, { once: true });
    this.heard();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    clearTimeout(this.#timer);
    const lost = new Unreachable(`no data for ${SILENCE_MS / 1000} s`);
    this.#timer = setTimeout(() => this.#controller.abort(lost), SILENCE_MS);
  }

  /** Close the connection, if it is still open. */
  end(): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#abort);
    this.#controller.abort();
  }
}

function requestOf(path: string, types: readonly string[], lastId: string | null): Spec {
  const cursor: Record<string, string> = lastId === null ? {} : { "last-event-id": lastId };
  return { method: "GET", path, query: { type: types }, headers: { accept: "text/event-stream", ...cursor } };
}

async function eventStreamOf(response: Response): Promise<ReadableStream<Uint8Array>> {
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
  if (response.status === 200 && isStream && response.body !== null) return response.body;
  const answer = { status: response.status, headers: response.headers, body: await response.text() };
  throw response.ok ? new UnexpectedResponse(answer.status, answer.body) : refusalOf(answer);
}

async function* piecesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield decoder.decode(value, { stream: true });
  }
}

function eventOf(data: string): FeedEvent {
  try {
    return JSON.parse(data) as FeedEvent;
  } catch {
    throw new UnexpectedResponse(200, data);
  }
}
