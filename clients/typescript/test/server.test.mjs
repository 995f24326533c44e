// The client against a real Dovecote with a sandbox. `tests/client/test_typescript.py` starts them and names them here:
// DOVECOTE_URL, DOVECOTE_API_KEY. Without them, these tests are skipped.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { describe, test } from "node:test";

import { ConfigurationError, Dovecote, InvalidWebhook, Problem, WaitTimeout, hasEnded, resultUrls, verifyWebhook } from "../dist/index.js";

const skip = process.env.DOVECOTE_URL ? false : "DOVECOTE_URL names no server; run the tests by pytest tests/client/test_typescript.py";
const request = (prompt, more = {}) => ({ family: "runway", operation: "text_to_video", input: { prompt, duration: 5 }, ...more });

/** Receive requests until the block has ended; `next` waits for one. */
async function receiving(block) {
  const waiting = [];
  const received = [];
  const server = createServer(async (message, response) => {
    const chunks = [];
    for await (const each of message) chunks.push(each);
    const found = { headers: message.headers, body: Buffer.concat(chunks) };
    response.writeHead(204).end();
    const waiter = waiting.shift();
    if (waiter) waiter(found);
    else received.push(found);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await block(`http://127.0.0.1:${server.address().port}/hook`, async () => received.shift() ?? new Promise((resolve) => waiting.push(resolve)));
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

describe("a real server", { skip }, () => {
  const dovecote = skip ? null : new Dovecote();

  test("a task is submitted, followed and listed", async () => {
    const task = await dovecote.submit(request("a typed dove", { labels: { from: "typescript" } }));
    assert.equal(task.replayed, false);
    const types = [];
    for await (const event of dovecote.stream(task)) types.push(event.type);
    assert.equal(types[0], "task.submitted");
    assert.ok(types.includes("task.succeeded"), types.join());
    const ended = await dovecote.wait(task, { timeoutMs: 60_000 });
    assert.ok(hasEnded(ended));
    assert.equal(ended.state, "succeeded");
    assert.equal(resultUrls(ended).length, 1);
    const found = [];
    for await (const each of dovecote.list({ labels: { from: "typescript" }, limit: 1 })) found.push(each.id);
    assert.deepEqual(found, [task.id]);
    assert.ok((await dovecote.history(task)).length >= types.length);
    const feed = [];
    for await (const event of dovecote.events()) feed.push(event.type);
    assert.ok(feed.includes("task.succeeded"));
  });

  test("a submit whose answer is lost is one task", async () => {
    let lost = 0;
    const fetch = async (url, init) => {
      const response = await globalThis.fetch(url, init);
      if (init.method === "POST" && lost < 2) {
        lost += 1;
        await response.text();
        throw new TypeError("fetch failed");
      }
      return response;
    };
    const losing = new Dovecote({ fetch });
    const task = await losing.submit(request("a lost typed dove"));
    assert.deepEqual([lost, task.replayed], [2, true]);
  });

  test("several tasks come in pages", async () => {
    const labels = { batch: "pages" };
    const submitted = await Promise.all([1, 2, 3].map((number) => dovecote.submit(request(`dove ${number}`, { labels }))));
    const page = await dovecote.page({ labels, limit: 2 });
    assert.equal(page.items.length, 2);
    const found = [];
    for await (const each of dovecote.list({ labels, limit: 2 })) found.push(each.id);
    assert.deepEqual(found.toSorted(), submitted.map((each) => each.id).toSorted());
  });

  test("a failed task is no error of the client", async () => {
    const task = await dovecote.submit(request("[fail] a dove"));
    const ended = await dovecote.wait(task, { timeoutMs: 60_000 });
    assert.equal(ended.state, "failed");
    assert.ok(ended.failure.message);
  });

  test("mistakes in a request are told by their fields", async () => {
    await assert.rejects(dovecote.submit({ family: "runway", operation: "text_to_video", input: { promt: "a dove" } }), (error) => {
      assert.ok(error instanceof Problem);
      assert.ok(error.errors.some((each) => each.path.startsWith("input")), JSON.stringify(error.errors));
      return true;
    });
    await assert.rejects(dovecote.get("01a1fdfb-6590-78b2-9217-c49a4ce509c0"), { status: 404, code: "not_found" });
    await assert.rejects(new Dovecote({ apiKey: "wrong" }).get("01a1fdfb-6590-78b2-9217-c49a4ce509c0"), { status: 401 });
  });

  test("a key of a request is not used for another one", async () => {
    const options = { idempotencyKey: "typescript-1" };
    const first = await dovecote.submit(request("first"), options);
    assert.equal((await dovecote.submit(request("first"), options)).id, first.id);
    await assert.rejects(dovecote.submit(request("second"), options), { code: "idempotency_key_reused" });
  });

  test("a wait ends in time, and the task can be cancelled", async () => {
    const task = await dovecote.submit(request("[slow] a dove"));
    await assert.rejects(dovecote.wait(task, { timeoutMs: 0 }), WaitTimeout);
    const cancelled = await dovecote.cancel(task);
    assert.equal(cancelled.id, task.id);
  });

  test("webhooks are verified, also while the secret is rotated", async () => {
    await receiving(async (url, next) => {
      const before = (await dovecote.webhookSecret.get()).secret;
      await dovecote.submit(request("a told dove", { callback_url: url }));
      const first = await next();
      const webhook = await verifyWebhook(first.headers, first.body, before);
      assert.equal(webhook.type, "task.succeeded");
      assert.equal(webhook.task.state, "succeeded");
      const after = (await dovecote.webhookSecret.rotate(3600)).secret;
      await dovecote.submit(request("another told dove", { callback_url: url }));
      const second = await next();
      for (const secret of [before, after, [before, after]]) await verifyWebhook(second.headers, second.body, secret);
      await assert.rejects(verifyWebhook(first.headers, first.body, after), InvalidWebhook);
    });
  });

  test("an endpoint is registered, tested, changed and deleted", async () => {
    await receiving(async (url, next) => {
      const endpoint = await dovecote.endpoints.create({ url, events: ["task.succeeded"], description: "from TypeScript" });
      const [, received] = await Promise.all([dovecote.endpoints.test(endpoint), next()]);
      assert.equal((await verifyWebhook(received.headers, received.body, endpoint.secret)).type, "endpoint.test");
      const changed = await dovecote.endpoints.update(endpoint, { description: "changed" });
      assert.equal(changed.description, "changed");
      assert.ok((await dovecote.endpoints.list()).some((each) => each.id === endpoint.id));
      const messages = [];
      for await (const each of dovecote.messages.list({ endpoint: endpoint.id })) messages.push(each.type);
      assert.ok(messages.includes("endpoint.test"), messages.join());
      assert.equal((await dovecote.endpoints.delete(endpoint)).id, endpoint.id);
    });
  });

  test("a file is uploaded and deleted", async () => {
    const png = Uint8Array.from(atob("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="), (c) => c.charCodeAt(0));
    for (const file of [png, new Blob([png]), png.buffer]) {
      const upload = await dovecote.uploads.create(file, "dot.png");
      assert.deepEqual([upload.content_type, upload.size, upload.name], ["image/png", png.length, "dot.png"]);
      assert.equal((await dovecote.uploads.get(upload)).sha256, upload.sha256);
      await dovecote.uploads.delete(upload);
      await assert.rejects(dovecote.uploads.get(upload), { status: 404 });
    }
  });

  test("the catalogue, the quotes and the sums are read", async () => {
    assert.ok((await dovecote.families()).some((each) => each.name === "runway"));
    assert.ok((await dovecote.upstreams()).length > 0);
    assert.ok((await dovecote.quote(request("a dove"))).quotes);
    assert.ok((await dovecote.usage({ group: "upstream" })).rows);
    assert.ok(Array.isArray(await dovecote.budgets()));
  });

  test("a task is erased", async () => {
    const task = await dovecote.submit(request("to be erased"));
    await dovecote.wait(task, { timeoutMs: 60_000 });
    const erasure = await dovecote.erase(task);
    assert.equal(erasure.tasks, 1);
  });

  test("the URL is checked", () => assert.throws(() => new Dovecote({ url: "127.0.0.1:8080" }), ConfigurationError));
});
