/** Lists that come in pages. */

import type { CallOptions, Connection } from "./connection.js";
import { UnexpectedResponse } from "./errors.js";
import type { Page } from "./types.js";

/** Get one page of a list. */
export async function pageOf<Item>(
  connection: Connection, path: string, name: string, query: object, options: CallOptions,
): Promise<Page<Item>> {
  const document = await connection.json<Record<string, unknown>>({ method: "GET", path, query }, options);
  const items = document[name];
  if (!Array.isArray(items)) throw new UnexpectedResponse(200, JSON.stringify(document));
  const next = document["next"];
  return { items, next: typeof next === "string" ? next : null };
}

/** Yield the items of all pages. */
export async function* every<Item>(page: (cursor: string | undefined) => Promise<Page<Item>>): AsyncGenerator<Item> {
  let cursor: string | undefined;
  do {
    const found = await page(cursor);
    yield* found.items;
    cursor = found.next ?? undefined;
  } while (cursor !== undefined);
}

/**
 * Return the id of a value, or of what is an id itself.
 *
 * @throws {TypeError} when it is no id, which might lead to another path
 */
export function idOf(value: string | { readonly id: string }): string {
  const id = typeof value === "string" ? value : value.id;
  if (!/^[\w-]{1,64}$/.test(id)) throw new TypeError(`${JSON.stringify(String(id).slice(0, 80))} is not an id`);
  return id;
}
