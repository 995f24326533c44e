/** Parse server-sent events incrementally, without doing I/O. */

/** Maximum characters of one event. */
export const MAX_EVENT = 4 * 1024 * 1024;
/** Maximum milliseconds before a reconnection that a server may ask for. */
const MAX_RETRY_MS = 60_000;

/** One event of a stream. */
export interface Block {
  readonly type: string;
  readonly data: string;
  /** The cursor behind it; null where the stream has sent none so far. */
  readonly id: string | null;
}

/** Parses a stream by the rules of the HTML standard: a line ends with LF, CR or CRLF, and with nothing else. */
export class Parser {
  #rest = "";
  #size = 0;
  #type = "";
  #data: string[] = [];
  #id: string | null;

  /** Start, with the state of an earlier connection where there was one. */
  constructor(
    public lastId: string | null = null,
    /** Milliseconds to wait before connecting again, where the server has said so. */
    public retryMs: number | null = null,
  ) {
    this.#id = lastId; // takes effect when its event is complete: an event that was cut off has to come again
  }

  /**
   * Parse a piece and yield the events that it completes.
   *
   * @throws {RangeError} when an event exceeds {@link MAX_EVENT} characters
   */
  *feed(piece: string): Generator<Block> {
    const text = this.#rest + piece;
    const held = text.endsWith("\r") ? 1 : 0; // it may be half of a CRLF
    const lines = text.slice(0, text.length - held).split(/\r\n|\r|\n/);
    this.#rest = (lines.pop() ?? "") + (held ? "\r" : "");
    for (const line of lines) {
      this.#size += line.length;
      const block = this.#process(line);
      if (block !== null) yield block;
    }
    if (this.#size + this.#rest.length > MAX_EVENT) throw new RangeError(`an event exceeds ${MAX_EVENT} characters`);
  }

  #process(line: string): Block | null {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retryMs = Math.min(Number(value.slice(0, 9)), MAX_RETRY_MS);
    return null;
  }

  #dispatch(): Block | null {
    this.lastId = this.#id;
    const block = this.#data.length ? { type: this.#type || "message", data: this.#data.join("\n"), id: this.lastId } : null;
    this.#type = "";
    this.#data = [];
    this.#size = 0;
    return block;
  }
}
