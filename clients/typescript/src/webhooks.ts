/** Verify the webhooks that Dovecote sends (Standard Webhooks), with WebCrypto only. */

import { ConfigurationError, InvalidWebhook } from "./errors.js";
import type { Task } from "./types.js";

const TOLERANCE_SECONDS = 300;
const MAX_SIGNATURES = 16;

/** A webhook whose signature has been verified. */
export interface Webhook {
  /** The same for every attempt to deliver it: process each id once. */
  readonly id: string;
  readonly type: string;
  readonly timestamp: Date | null;
  /** Number of the event in the history of the task: of two copies of a task, the one with the higher number is newer. */
  readonly sequence: number;
  /** Null for a webhook that is not about a task, such as `endpoint.test`. */
  readonly task: Task | null;
  /** The whole body. */
  readonly document: Readonly<Record<string, unknown>>;
}

/** Headers of a request: those of `fetch`, or of Node's `http`. */
export type WebhookHeaders = Headers | Readonly<Record<string, string | readonly string[] | undefined>>;

/** How a webhook is verified. */
export interface VerifyOptions {
  /** Seconds by which the clocks may differ, and that a delivery may take; default: 300. */
  readonly toleranceSeconds?: number;
  /** The time to compare with; default: now. */
  readonly now?: Date;
}

/**
 * Verify the signature of a webhook and return its content.
 *
 * @param headers of the request; the case of the names does not matter
 * @param body the raw body, exactly as it was received
 * @param secret `whsec_…`; during a rotation, the old and the new secret
 * @throws {InvalidWebhook} when none of the secrets signed it, when it is too old, or when its content is not that of Dovecote
 * @throws {ConfigurationError} when a secret does not have the form `whsec_…`
 */
export async function verifyWebhook(
  headers: WebhookHeaders,
  body: string | ArrayBuffer | Uint8Array,
  secret: string | readonly string[],
  options: VerifyOptions = {},
): Promise<Webhook> {
  const secrets = typeof secret === "string" ? [secret] : secret;
  const keys = secrets.map(bytesOfSecret);
  const id = headerOf(headers, "webhook-id");
  const timestamp = headerOf(headers, "webhook-timestamp");
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : new Uint8Array(body);
  checkAge(timestamp, options);
  const signed = joined(new TextEncoder().encode(`${id}.${timestamp}.`), bytes);
  const signatures = signaturesOf(headerOf(headers, "webhook-signature"));
  for (const key of keys) {
    if (await isSignedBy(key, signatures, signed)) return webhookOf(id, bytes);
  }
  throw new InvalidWebhook("the signature does not match this secret");
}

/** Return whether one of the signatures is that of a key. WebCrypto compares in constant time. */
async function isSignedBy(key: Bytes, signatures: readonly Bytes[], signed: Bytes): Promise<boolean> {
  const imported = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  const verified = await Promise.all(signatures.map((each) => crypto.subtle.verify("HMAC", imported, each, signed)));
  return verified.includes(true);
}

type Bytes = Uint8Array<ArrayBuffer>;

function headerOf(headers: WebhookHeaders, name: string): string {
  const value = headers instanceof Headers ? headers.get(name) : plainHeaderOf(headers, name);
  if (!value) throw new InvalidWebhook(`the header ${name} is missing`);
  return value;
}

function plainHeaderOf(headers: Exclude<WebhookHeaders, Headers>, name: string): string | undefined {
  const found = Object.entries(headers).filter(([each, value]) => each.toLowerCase() === name && value !== undefined);
  const values = found.flatMap(([, value]) => value as string | readonly string[]);
  if (values.length > 1) throw new InvalidWebhook(`the header ${name} is there more than once`);
  return values[0];
}

function checkAge(timestamp: string, options: VerifyOptions): void {
  if (!/^\d{1,12}$/.test(timestamp)) throw new InvalidWebhook("the header webhook-timestamp is not a number of seconds");
  const now = (options.now ?? new Date()).getTime() / 1000;
  if (Math.abs(now - Number(timestamp)) > (options.toleranceSeconds ?? TOLERANCE_SECONDS)) {
    throw new InvalidWebhook("the webhook is too old, or the clocks differ");
  }
}

function signaturesOf(header: string): Bytes[] {
  const stated = header.split(" ").filter((each) => each.startsWith("v1,"));
  return stated.slice(0, MAX_SIGNATURES).flatMap((each) => bytesOfBase64(each.slice("v1,".length)) ?? []);
}

function bytesOfSecret(secret: string): Bytes {
  const key = bytesOfBase64(secret.trim().replace(/^whsec_/, ""));
  if (key === null || key.length === 0) throw new ConfigurationError("the webhook secret does not have the form whsec_…");
  return key;
}

function bytesOfBase64(text: string): Bytes | null {
  try {
    return Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  } catch {
    return null;
  }
}

function joined(head: Uint8Array, tail: Uint8Array): Bytes {
  const both = new Uint8Array(head.length + tail.length);
  both.set(head);
  both.set(tail, head.length);
  return both;
}

/** Return the content of a body in the standard format or of a CloudEvent. */
function webhookOf(id: string, body: Uint8Array): Webhook {
  let document: Record<string, unknown>;
  try {
    document = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw new InvalidWebhook("the body is not JSON");
  }
  const type = document?.["type"];
  if (typeof type !== "string") throw new InvalidWebhook("the body is not that of a webhook of Dovecote");
  const task = type.startsWith("task.") ? (document["data"] as Task) : null;
  const written = document["timestamp"] ?? document["time"];
  return {
    id,
    type,
    timestamp: typeof written === "string" ? new Date(written) : null,
    sequence: Number(document["sequence"] ?? task?.sequence ?? 0),
    task,
    document,
  };
}
