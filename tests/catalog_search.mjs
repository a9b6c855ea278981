// What the catalog's search finds, as JSON: catalog on standard input, the modules as arguments.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [searching, snippets, rows] = process.argv.slice(2);
const { href, indexOf, search } = await import(pathToFileURL(searching));
const { python, shell } = await import(pathToFileURL(snippets));
const { rowFor } = await import(pathToFileURL(rows));
const index = indexOf(JSON.parse(readFileSync(0, "utf8")));
const texts = [
  "spending",
  "spending:count_1h",
  "TEAM:TILL",
  "gold",
  "pii:behaviour",
  "customer",
  "payments amount spending",
];
texts.push("where latest", "usually fraud", "<script>", "  ", "no such thing");
const found = Object.fromEntries(
  texts.map((text) => [text, search(index, text).map(({ kind, title }) => `${kind} ${title}`)]),
);
const shop = {
  views: [{ name: "rides", version: 1 }],
  source: () => ({ columns: [{ name: "city", dtype: "int64" }] }),
  entity: () => ({ join_keys: ["city"] }),
};
const inRole = { reads: ["rides@1:count"], columns: { city: "rival" } };
const told = {
  row: rowFor(shop, { keys: ["rival"], features: [inRole] }),
  python: python({ a: [1, null, true, '"\\x'] }),
  shell: shell("it's"),
  href: href("features", "a/b:<c>"),
};
process.stdout.write(JSON.stringify({ ...found, ...told }));
