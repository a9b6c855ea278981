// What the catalog's search finds, as JSON: catalog on standard input, the modules as arguments.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [searching, snippets] = process.argv.slice(2);
const { href, indexOf, search } = await import(pathToFileURL(searching));
const { python, shell } = await import(pathToFileURL(snippets));
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
const told = {
  python: python({ a: [1, null, true, '"\\x'] }),
  shell: shell("it's"),
  href: href("features", "a/b:<c>"),
};
process.stdout.write(JSON.stringify({ ...found, ...told }));
