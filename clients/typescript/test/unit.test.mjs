// The client without a network: a scripted fetch, and timers that the test holds.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { afterEach, beforeEach, describe, mock, test } from "node:test";

import {
  ConfigurationError, Dovecote, InvalidWebhook, Problem, UnexpectedResponse, Unreachable, VERSION, WaitTimeout,
  resultUrls, verifyWebhook,
} from "../dist/index.js";
import { MAX_EVENT, Parser } from "../dist/sse.js";

const URL_ = "http://dovecote.test";
const ID = "01a1fdfb-6590-78b2-9217-c49a4ce509c0";
const REQUEST = { family: "runway", operation: "text_to_video", input: { prompt: "a dove" } };

const json = (status, document, headers = {}) =>
  new Response(JSON.stringify(document), { status, headers: { "content-type": "application/json", ...headers } });
const task = (state = "running", more = {}) => ({ id: ID, state, progress: null, explanation: state, results: [], ...more });
const problem = (status, code, more = {}, headers = {}) =>
  json(status, { type: "about:blank", title: code, status, code, detail: `${code}.`, ...more }, headers);
const lost = () => Object.assign(new TypeError("fetch failed"), { cause: Object.assign(new Error("reset"), { code: "ECONNRESET" }) });
const refused = () => Object.assign(new TypeError("fetch failed"), { cause: Object.assign(new Error("no"), { code: "ECONNREFUSED" }) });

/** Return a client whose fetch gives the answers in order, and what was sent. */
function scripted(answers, options = {}) {
  const sent = [];
  const pauses = [];
  const rest = [...answers];
  const fetch = async (url, init = {}) => {
    sent.push({ url: String(url), ...init });
    const next = rest.shift();
    assert.ok(next !== undefined, `nothing is scripted for request ${sent.length}`);
    const answer = typeof next === "function" ? await next(init) : next;
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const onRetry = (_error, pause) => {
    pauses.push(pause);
    queueMicrotask(() => mock.timers.tick(pause));
  };
  const client = new Dovecote({ url: URL_, apiKey: "dove_key", fetch, onRetry, ...options });
  return { client, sent, pauses };
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());

describe("requests", () => {
  test("a submit whose answer is lost is repeated with the same idempotency key", async () => {
    const { client, sent, pauses } = scripted([lost(), json(503, {}), json(202, task("queued"), { "idempotency-replayed": "true" })]);
    const found = await client.submit(REQUEST);
    assert.equal(found.replayed, true);
    assert.deepEqual(pauses, [200, 500]);
    assert.equal(new Set(sent.map((each) => each.headers["idempotency-key"])).size, 1);
    assert.equal(new Set(sent.map((each) => each.body)).size, 1);
  });

  test("each submit has an idempotency key of its own, unless the caller gives one", async () => {
    const { client, sent } = scripted([json(202, task()), json(202, task()), json(202, task())]);
    for (const options of [{}, {}, { idempotencyKey: "shot-1" }]) await client.submit(REQUEST, options);
    const keys = sent.map((each) => each.headers["idempotency-key"]);
    assert.equal(new Set(keys).size, 3);
    assert.equal(keys[2], "shot-1");
    await assert.rejects(client.submit(REQUEST, { idempotencyKey: "a\nb" }), ConfigurationError);
  });

  test("what must not be done twice is repeated only when it certainly was not done", async () => {
    const once = scripted([lost()]);
    await assert.rejects(once.client.sendInput(ID, { prompt: "x" }), Unreachable);
    const again = scripted([problem(429, "rate_limited"), json(200, task())]);
    await again.client.sendInput(ID, { prompt: "x" });
    for (const call of [(c) => c.retry(ID, { confirmDoublePayment: true }), (c) => c.endpoints.create({ url: "https://a.test" }),
      (c) => c.endpoints.rotateSecret(ID), (c) => c.endpoints.test(ID), (c) => c.webhookSecret.rotate(0)]) {
      await assert.rejects(call(scripted([json(503, {})]).client), UnexpectedResponse);
    }
  });

  test("a refusal is a Problem with every mistake, and is not repeated", async () => {
    const errors = [{ path: "input.promt", message: "unknown" }];
    const { client } = scripted([problem(422, "invalid", { errors })]);
    await assert.rejects(client.submit(REQUEST), (error) => {
      assert.ok(error instanceof Problem);
      assert.deepEqual([error.name, error.status, error.code, error.detail, error.transient], ["Problem", 422, "invalid", "invalid.", false]);
      assert.deepEqual(error.errors, errors);
      return true;
    });
  });

  test("Retry-After is obeyed, up to a minute", async () => {
    const { client, pauses } = scripted([problem(429, "rate_limited", {}, { "retry-after": "7" }), json(200, task())]);
    await client.get(ID);
    assert.deepEqual(pauses, [7000]);
    const long = scripted([problem(429, "rate_limited", {}, { "retry-after": "86400" })]);
    await assert.rejects(long.client.get(ID), { retryAfterMs: 86_400_000 });
  });

  test("retries end after the time that the client allows", async () => {
    const { client, sent } = scripted(Array.from({ length: 9 }, lost), { retryForMs: 0 });
    await assert.rejects(client.get(ID), { sent: true });
    assert.equal(sent.length, 1);
  });

  test("a server that nobody has reached is given up soon", async () => {
    const { client } = scripted([refused(), refused(), refused(), refused(), refused()]);
    await assert.rejects(client.wait(ID), (error) => error instanceof Unreachable && !error.sent);
  });

  for (const [name, answer] of [
    ["a page of a proxy", () => new Response("<html>Bad gateway</html>", { status: 404 })],
    ["JSON without a code", () => json(400, { error: "x" })],
    ["a success that is no JSON", () => new Response("hello", { status: 200 })],
    ["a success that is a number", () => json(200, 3)],
    ["a redirect", () => new Response(null, { status: 307, headers: { location: "http://elsewhere.test/" } })],
  ]) {
    test(`${name} is an UnexpectedResponse`, async () => {
      const { client, sent } = scripted([answer()]);
      await assert.rejects(client.get(ID), UnexpectedResponse);
      assert.equal(sent.length, 1);
      assert.equal(sent[0].redirect, "manual");
    });
  }

  test("the caller's signal ends a call and a pause with its own reason", async () => {
    const before = scripted([]);
    await assert.rejects(before.client.get(ID, { signal: AbortSignal.abort(new Error("stopped")) }), { message: "stopped" });
    const controller = new AbortController();
    const during = scripted([lost()], { onRetry: () => queueMicrotask(() => controller.abort(new Error("enough"))) });
    await assert.rejects(during.client.get(ID, { signal: controller.signal }), { message: "enough" });
  });

  test("queries repeat a parameter for each value, and labels become pairs", async () => {
    const { client, sent } = scripted([json(200, { tasks: [], next: null })]);
    await client.page({ state: ["failed", "expired"], labels: { "a.b": "c=d & e" } });
    assert.equal(sent[0].url, `${URL_}/v1/tasks?state=failed&state=expired&label=a.b%3Dc%3Dd+%26+e`);
  });

  test("a list loads further pages as it is read", async () => {
    const { client, sent } = scripted([json(200, { tasks: [task()], next: "c1" }), json(200, { tasks: [task(), task()], next: null })]);
    const found = [];
    for await (const each of client.list({ limit: 1 })) found.push(each.id);
    assert.equal(found.length, 3);
    assert.match(sent[1].url, /cursor=c1/);
  });

  test("an id that leads to another path is refused", async () => {
    const { client, sent } = scripted([]);
    for (const id of ["../upstreams", "a/b", "", "a?b", "a".repeat(65)]) {
      await assert.rejects(async () => client.get(id), TypeError);
      await assert.rejects(async () => client.results.link({ id }), TypeError);
    }
    assert.equal(sent.length, 0);
  });

  test("a kept copy in object storage is read without the API key", async () => {
    const { client, sent } = scripted([new Response(null, { status: 302, headers: { location: "https://bucket.test/x?sig=1" } }), new Response("bytes")]);
    const response = await client.results.content(ID);
    assert.equal(await response.text(), "bytes");
    assert.equal(sent[1].url, "https://bucket.test/x?sig=1");
    assert.equal(sent[1].headers, undefined);
  });

  test("settings that are not usable are refused before anything is sent", () => {
    for (const url of ["dovecote.example", "ftp://a.test", "http://user:secret@a.test", "http://"]) {
      assert.throws(() => new Dovecote({ url }), (error) => error instanceof ConfigurationError && !error.message.includes("secret"));
    }
    assert.throws(() => new Dovecote({ url: URL_, apiKey: "two words" }), ConfigurationError);
  });
});

describe("waiting", () => {
  test("a wait goes on until the task has ended", async () => {
    const { client, sent } = scripted([json(200, task()), json(200, task()), json(200, task("succeeded"))]);
    assert.equal((await client.wait(ID)).state, "succeeded");
    assert.match(sent[0].url, /wait=30/);
  });

  test("a wait that takes too long throws a WaitTimeout with the task", async () => {
    const { client } = scripted([json(200, task("running"))]);
    await assert.rejects(client.wait(ID, { timeoutMs: 0 }), (error) => error instanceof WaitTimeout && error.task.state === "running");
  });

  test("a watcher sees each change once", async () => {
    const { client } = scripted([json(200, task("queued")), json(200, task("queued")), json(200, task("running")), json(200, task("failed"))]);
    const seen = [];
    for await (const each of client.watch(ID)) seen.push(each.state);
    assert.deepEqual(seen, ["queued", "running", "failed"]);
  });

  test("the URLs of a task are those of its results", () => {
    const results = [{ role: "result", url: "https://a.test/1" }, { role: "cover", url: "https://a.test/2" }, { role: "result", url: null }];
    assert.deepEqual(resultUrls(task("succeeded", { results })), ["https://a.test/1"]);
  });
});

describe("streams", () => {
  const stream = (...pieces) => () => {
    const rest = [...pieces];
    const body = new ReadableStream({
      pull(controller) {
        const each = rest.shift();
        if (each instanceof Error) controller.error(each);
        else if (each === undefined) controller.close();
        else controller.enqueue(new TextEncoder().encode(each));
      },
    }, { highWaterMark: 0 });
    return new Response(body, { status: 200, headers: { "content-type": "text/event-stream" } });
  };
  const event = (id) => `id: ${id}\nevent: task.progress\ndata: {"id":"${id}","type":"task.progress"}\n\n`;
  const all = async (events) => {
    const found = [];
    for await (const each of events) found.push(each.id);
    return found;
  };

  test("a connection that breaks is made again behind the last event", async () => {
    const { client, sent } = scripted([
      stream(event("1"), "id: 2\ndata: {", lost()), lost(), json(503, {}), stream(event("2"), "event: end\ndata: {}\n\n"),
    ]);
    assert.deepEqual(await all(client.stream(ID)), ["1", "2"]);
    assert.deepEqual(sent.map((each) => each.headers["last-event-id"]), [undefined, "1", "1", "1"]);
  });

  test("204 ends a stream, a refusal is thrown, and data that is no event too", async () => {
    assert.deepEqual(await all(scripted([new Response(null, { status: 204 })]).client.stream(ID)), []);
    await assert.rejects(all(scripted([problem(404, "not_found")]).client.stream(ID)), Problem);
    await assert.rejects(all(scripted([stream("data: {\n\n")]).client.stream()), UnexpectedResponse);
    await assert.rejects(all(scripted([json(200, {})]).client.stream()), UnexpectedResponse);
  });

  test("a stream that is left closes its connection", async () => {
    let closed;
    const { client } = scripted([(init) => {
      closed = init.signal;
      return stream(event("1"), event("2"))();
    }]);
    for await (const each of client.stream()) {
      assert.equal(each.id, "1");
      break;
    }
    assert.equal(closed.aborted, true);
  });

  test("the feed continues behind the last page, and ends where it is not followed", async () => {
    const page = (ids, next) => json(200, { events: ids.map((id) => ({ id })), next });
    const { client, sent } = scripted([page(["1", "2"], "2"), page([], "2")]);
    assert.deepEqual(await all(client.events()), ["1", "2"]);
    assert.match(sent[1].url, /after=2/);
  });

  test("events are parsed the same wherever the stream is cut", () => {
    const text = ": hi\r\nid: 1\r\ndata: a\r\ndata:  b\r\n\r\nretry: 250\ndata: c\n\nevent: end\rdata\r\rid: 9\ndata: cut";
    const whole = [...new Parser().feed(text)];
    assert.deepEqual(whole.map((each) => [each.type, each.data, each.id]), [["message", "a\n b", "1"], ["message", "c", "1"], ["end", "", "1"]]);
    for (let cut = 1; cut < text.length; cut += 1) {
      const parser = new Parser();
      assert.deepEqual([...parser.feed(text.slice(0, cut)), ...parser.feed(text.slice(cut))], whole, `cut at ${cut}`);
      assert.deepEqual([parser.lastId, parser.retryMs], ["1", 250]);
    }
    assert.throws(() => [...new Parser().feed(`data: ${"x".repeat(MAX_EVENT)}`)], RangeError);
  });
});

describe("webhooks", () => {
  const secret = `whsec_${Buffer.from("a secret of thirty-two bytes....").toString("base64")}`;
  const other = `whsec_${Buffer.from("another secret").toString("base64")}`;
  const now = new Date("2026-11-27T00:00:00Z");
  const at = String(now.getTime() / 1000);
  const body = JSON.stringify({ type: "task.succeeded", timestamp: "2026-11-27T00:00:00Z", sequence: 4, data: task("succeeded", { prompt: "ü" }) });
  const sign = (key, text = body, id = "msg_1", when = at) =>
    `v1,${createHmac("sha256", Buffer.from(key.slice(6), "base64")).update(`${id}.${when}.${text}`).digest("base64")}`;
  const headers = (signature, more = {}) => ({ "Webhook-Id": "msg_1", "webhook-timestamp": at, "webhook-signature": signature, ...more });

  test("a signed webhook has its task, in each form of headers and body", async () => {
    for (const given of [headers(sign(secret)), new Headers(headers(sign(secret)))]) {
      for (const raw of [body, Buffer.from(body), new TextEncoder().encode(body), new TextEncoder().encode(body).buffer]) {
        const webhook = await verifyWebhook(given, raw, secret, { now });
        assert.deepEqual([webhook.id, webhook.type, webhook.sequence, webhook.task.id], ["msg_1", "task.succeeded", 4, ID]);
        assert.equal(webhook.timestamp.getTime(), now.getTime());
      }
    }
  });

  test("during a rotation either side may be ahead", async () => {
    const both = `${sign(other)} ${sign(secret)}`;
    await verifyWebhook(headers(both), body, secret, { now });
    await verifyWebhook(headers(sign(secret)), body, [other, secret], { now });
    await assert.rejects(verifyWebhook(headers(both), body, [], { now }), InvalidWebhook);
  });

  test("a CloudEvent and a test message are read too", async () => {
    const cloud = JSON.stringify({ specversion: "1.0", type: "endpoint.test", time: "2026-11-27T00:00:00Z", data: {} });
    const webhook = await verifyWebhook(headers(sign(secret, cloud)), cloud, secret, { now });
    assert.deepEqual([webhook.task, webhook.sequence, webhook.timestamp.getTime()], [null, 0, now.getTime()]);
  });

  test("the tolerance is that of the caller, in both directions", async () => {
    const late = (seconds) => ({ now: new Date(now.getTime() + seconds * 1000) });
    for (const seconds of [-300, 300]) await verifyWebhook(headers(sign(secret)), body, secret, late(seconds));
    for (const seconds of [-301, 301]) await assert.rejects(verifyWebhook(headers(sign(secret)), body, secret, late(seconds)), InvalidWebhook);
    await verifyWebhook(headers(sign(secret)), body, secret, { ...late(900), toleranceSeconds: 1000 });
  });

  for (const [name, given, raw] of [
    ["another body", headers(sign(secret)), `${body} `],
    ["another secret", headers(sign(other)), body],
    ["another id", headers(sign(secret), { "Webhook-Id": "msg_2" }), body],
    ["another version", headers(sign(secret).replace("v1", "v1a")), body],
    ["no signature", headers(""), body],
    ["a signature that is no base64", headers("v1,%%%"), body],
    ["a shorter signature", headers(sign(secret).slice(0, 20)), body],
    ["two ids", headers(sign(secret), { "webhook-ID": "msg_1" }), body],
    ["a time that is no number", headers(sign(secret, body, "msg_1", "1e9"), { "webhook-timestamp": "1e9" }), body],
    ["a signed body that is no JSON", headers(sign(secret, "hello")), "hello"],
    ["a signed body without a type", headers(sign(secret, "null")), "null"],
  ]) {
    test(`a webhook with ${name} is refused`, () => assert.rejects(verifyWebhook(given, raw, secret, { now }), InvalidWebhook));
  }

  test("a secret in another form is a mistake of the receiver, and is not quoted", async () => {
    for (const wrong of ["whsec_", "whsec_%%", ""]) {
      await assert.rejects(verifyWebhook(headers(sign(secret)), body, wrong, { now }), (error) => error instanceof ConfigurationError && !error.message.includes("%%"));
    }
  });
});

test("the version is that of package.json", async () => {
  const { default: stated } = await import("../package.json", { with: { type: "json" } });
  assert.equal(VERSION, stated.version);
});
