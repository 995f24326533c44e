/** The webhook endpoints, messages, callbacks, uploads and kept results, as parts of the client. */

import type { CallOptions, Connection, Spec } from "./connection.js";
import { refusalOf } from "./connection.js";
import { UnexpectedResponse } from "./errors.js";
import { every, idOf, pageOf } from "./lists.js";
import type {
  CallbackFilters, Endpoint, EndpointChange, EndpointRequest, EndpointWithSecret, Message, MessageFilters,
  MessageWithDeliveries, OrId, Page, Provenance, ReplayRequest, ResultLink, StoredCallback, Task, Upload, UploadFilters,
  WebhookSecret, WholeCallback,
} from "./types.js";

/** Where a page begins. */
interface Cursor {
  /** `next` of the page before. */
  readonly cursor?: string | undefined;
}

/** The webhook endpoints, as `client.endpoints`. */
export class Endpoints {
  constructor(private readonly connection: Connection) {}

  /** Register an endpoint. Its `secret` is shown this once. The request is not repeated: it might register two. */
  create(request: EndpointRequest, options: CallOptions = {}): Promise<EndpointWithSecret> {
    return this.connection.json({ method: "POST", path: "/v1/endpoints", json: request }, { ...options, repeatable: false });
  }

  /** List all endpoints, oldest first. */
  async list(options: CallOptions = {}): Promise<readonly Endpoint[]> {
    return (await pageOf<Endpoint>(this.connection, "/v1/endpoints", "endpoints", {}, options)).items;
  }

  /** Get an endpoint. */
  get(endpoint: OrId<Endpoint>, options: CallOptions = {}): Promise<Endpoint> {
    return this.connection.json({ method: "GET", path: pathOf(endpoint) }, options);
  }

  /** Change an endpoint. */
  update(endpoint: OrId<Endpoint>, changes: EndpointChange, options: CallOptions = {}): Promise<Endpoint> {
    return this.connection.json({ method: "PATCH", path: pathOf(endpoint), json: changes }, options);
  }

  /** Delete an endpoint, and return it as it was. Its pending messages are discarded. */
  delete(endpoint: OrId<Endpoint>, options: CallOptions = {}): Promise<Endpoint> {
    return this.connection.json({ method: "DELETE", path: pathOf(endpoint) }, options);
  }

  /** Rotate the secret of an endpoint. The new one is shown this once; for a day the old one signs as well. */
  rotateSecret(endpoint: OrId<Endpoint>, options: CallOptions = {}): Promise<EndpointWithSecret> {
    const request: Spec = { method: "POST", path: `${pathOf(endpoint)}/rotate` };
    return this.connection.json(request, { ...options, repeatable: false });
  }

  /** Send a test message to an endpoint, and return the message with its delivery. */
  test(endpoint: OrId<Endpoint>, options: CallOptions = {}): Promise<MessageWithDeliveries> {
    const request: Spec = { method: "POST", path: `${pathOf(endpoint)}/test` };
    return this.connection.json(request, { ...options, repeatable: false });
  }
}

/** The messages to clients, as `client.messages`. */
export class Messages {
  constructor(private readonly connection: Connection) {}

  /** Yield messages, newest first. Further pages are loaded as needed. */
  list(filters: MessageFilters = {}, options: CallOptions = {}): AsyncGenerator<Message> {
    return every((cursor) => this.page({ ...filters, cursor }, options));
  }

  /** Get one page of messages, newest first. */
  page(filters: MessageFilters & Cursor = {}, options: CallOptions = {}): Promise<Page<Message>> {
    return pageOf(this.connection, "/v1/messages", "messages", filters, options);
  }

  /** Get a message with its body and every attempt to deliver it. */
  get(message: OrId<Message>, options: CallOptions = {}): Promise<MessageWithDeliveries> {
    return this.connection.json({ method: "GET", path: `/v1/messages/${idOf(message)}` }, options);
  }

  /** Deliver a message again, under the same `webhook-id`. */
  replay(message: OrId<Message>, options: CallOptions = {}): Promise<MessageWithDeliveries> {
    return this.connection.json({ method: "POST", path: `/v1/messages/${idOf(message)}/replay` }, options);
  }

  /** Deliver every message again that matches, and return their number. */
  async replayAll(filters: Omit<ReplayRequest, "cursor"> = {}, options: CallOptions = {}): Promise<number> {
    let count = 0;
    let cursor: string | null | undefined;
    do {
      const json = { ...filters, ...(cursor ? { cursor } : {}) };
      const request: Spec = { method: "POST", path: "/v1/messages/replay", json };
      const page = await this.connection.json<{ replayed: number; next: string | null }>(request, options);
      count += page.replayed;
      cursor = page.next;
    } while (cursor);
    return count;
  }
}

/** The stored callbacks of providers, as `client.callbacks`. They need the scope `admin`. */
export class Callbacks {
  constructor(private readonly connection: Connection) {}

  /** Yield callbacks, newest first. Further pages are loaded as needed. */
  list(filters: CallbackFilters = {}, options: CallOptions = {}): AsyncGenerator<StoredCallback> {
    return every((cursor) => this.page({ ...filters, cursor }, options));
  }

  /** Get one page of callbacks, newest first. */
  page(filters: CallbackFilters & Cursor = {}, options: CallOptions = {}): Promise<Page<StoredCallback>> {
    return pageOf(this.connection, "/v1/callbacks", "callbacks", filters, options);
  }

  /** Get a callback with its body, and what this version reads in it. */
  get(callback: OrId<StoredCallback>, options: CallOptions = {}): Promise<WholeCallback> {
    return this.connection.json({ method: "GET", path: `/v1/callbacks/${idOf(callback)}` }, options);
  }

  /** Process a callback again. It is applied like a new one. */
  rerun(callback: OrId<StoredCallback>, options: CallOptions = {}): Promise<WholeCallback> {
    return this.connection.json({ method: "POST", path: `/v1/callbacks/${idOf(callback)}/rerun` }, options);
  }
}

/** The secret that signs the messages to your `callback_url`, as `client.webhookSecret`. */
export class WebhookSecrets {
  constructor(private readonly connection: Connection) {}

  /** Get your webhook secret. */
  get(options: CallOptions = {}): Promise<WebhookSecret> {
    return this.connection.json({ method: "GET", path: "/v1/webhook-secret" }, options);
  }

  /**
   * Rotate your webhook secret, and return the new one. The request is not repeated: a second rotation would end the old
   * secret at once.
   *
   * @param overlapSeconds for which the old secret signs as well; default: a day
   */
  rotate(overlapSeconds?: number, options: CallOptions = {}): Promise<WebhookSecret> {
    const json = overlapSeconds === undefined ? {} : { overlap: overlapSeconds };
    const request: Spec = { method: "POST", path: "/v1/webhook-secret/rotate", json };
    return this.connection.json(request, { ...options, repeatable: false });
  }
}

/** The files that tasks take as their media, as `client.uploads`. */
export class Uploads {
  constructor(private readonly connection: Connection) {}

  /**
   * Upload a file. A task takes it as `{ upload: upload.id }` in place of a URL.
   *
   * @param file its bytes; of a file on a disk, `await openAsBlob(path)` of `node:fs`, which is read while it is sent
   */
  create(
    file: Blob | Uint8Array<ArrayBuffer> | ArrayBuffer, name?: string, options: CallOptions = {},
  ): Promise<Upload> {
    const query = name === undefined ? {} : { name };
    return this.connection.json({ method: "POST", path: "/v1/uploads", query, bytes: file }, options);
  }

  /** Yield uploads, newest first. Further pages are loaded as needed. */
  list(filters: UploadFilters = {}, options: CallOptions = {}): AsyncGenerator<Upload> {
    return every((cursor) => this.page({ ...filters, cursor }, options));
  }

  /** Get one page of uploads, newest first. */
  page(filters: UploadFilters & Cursor = {}, options: CallOptions = {}): Promise<Page<Upload>> {
    return pageOf(this.connection, "/v1/uploads", "uploads", filters, options);
  }

  /** Get an upload. */
  get(upload: OrId<Upload>, options: CallOptions = {}): Promise<Upload> {
    return this.connection.json({ method: "GET", path: `/v1/uploads/${idOf(upload)}` }, options);
  }

  /** Delete an upload, and return it as it was. */
  delete(upload: OrId<Upload>, options: CallOptions = {}): Promise<Upload> {
    return this.connection.json({ method: "DELETE", path: `/v1/uploads/${idOf(upload)}` }, options);
  }
}

/** The kept results of tasks, as `client.results`. */
export class Results {
  constructor(private readonly connection: Connection) {}

  /** Get a link by which anybody can read a kept copy for a time. */
  link(task: OrId<Task>, number = 0, seconds?: number, options: CallOptions = {}): Promise<ResultLink> {
    const query = seconds === undefined ? {} : { seconds };
    return this.connection.json({ method: "GET", path: `${resultPath(task, number)}/link`, query }, options);
  }

  /** Get where a kept copy came from: model, upstream, times and hashes. */
  provenance(task: OrId<Task>, number = 0, options: CallOptions = {}): Promise<Provenance> {
    return this.connection.json({ method: "GET", path: `${resultPath(task, number)}/provenance` }, options);
  }

  /** Delete the kept copies of the results of a task. */
  delete(task: OrId<Task>, options: CallOptions = {}): Promise<Task> {
    return this.connection.json({ method: "DELETE", path: `/v1/tasks/${idOf(task)}/results` }, options);
  }

  /** Open a kept copy, and return the response with its bytes. Where it lies in object storage, no API key goes there. */
  async content(task: OrId<Task>, number = 0, options: CallOptions = {}): Promise<Response> {
    const request: Spec = { method: "GET", path: `${resultPath(task, number)}/content`, headers: { accept: "*/*" } };
    const response = await this.connection.open(request, options.signal);
    const location = response.headers.get("location");
    if (response.status >= 300 && response.status < 400 && location !== null) {
      await response.body?.cancel();
      const elsewhere = await this.connection.openElsewhere(new URL(location, this.connection.url), options.signal);
      if (!elsewhere.ok) throw new UnexpectedResponse(elsewhere.status, await elsewhere.text());
      return elsewhere;
    }
    if (response.ok) return response;
    throw refusalOf({ status: response.status, headers: response.headers, body: await response.text() });
  }
}

function pathOf(endpoint: OrId<Endpoint>): string {
  return `/v1/endpoints/${idOf(endpoint)}`;
}

function resultPath(task: OrId<Task>, number: number): string {
  if (!Number.isSafeInteger(number) || number < 0) throw new TypeError("the number of a result counts from 0");
  return `/v1/tasks/${idOf(task)}/results/${number}`;
}
