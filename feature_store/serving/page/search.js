// Search over everything that is declared: pure, without a page.

const WEIGHTS = { title: 30, place: 14, owner: 12, tags: 12, description: 6 };

/** The newest version of each thing, by name. */
export function newest(things) {
  const found = new Map();
  for (const thing of things) {
    const other = found.get(thing.name);
    if (!other || other.version < thing.version) found.set(thing.name, thing);
  }
  return [...found.values()];
}

/** An entry for each thing that can be found: kind, title, href, and the texts that are searched, in small letters. */
export function indexOf(catalog) {
  const found = [];
  const add = (kind, title, href, { place = "", owner = "", tags = "", description = "" }) => {
    const texts = { title, place, owner: owner ?? "", tags, description };
    const words = Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, text.toLowerCase()]));
    found.push({ kind, title, href, place, description, words });
  };
  for (const view of newest(catalog.views)) {
    const tags = Object.entries(view.tags)
      .map(([name, value]) => `${name}:${value} ${name}=${value}`)
      .join(" ");
    const place = `${view.entity} · ${view.source}`;
    add("view", view.name, href("views", view.name), { place, owner: view.owner, tags, description: view.description });
    for (const feature of view.features) {
      const description = feature.description || view.description;
      const name = `${view.name}:${feature.name}`;
      const said = [description, feature.description && view.description, feature.column].filter(Boolean).join(" · ");
      add("feature", name, href("features", name), { place, owner: view.owner, tags, description: said });
      found.at(-1).description = description;
    }
  }
  for (const service of newest(catalog.services)) {
    const { owner, description } = service;
    add("service", service.name, href("services", service.name), { owner, description });
    for (const feature of service.features.filter((each) => each.kind !== "stored")) {
      const place = `${feature.kind === "ratio" ? "ratio" : "on demand"} · ${service.name}`;
      const way = href("services", service.name, feature.name);
      add("feature", feature.name, way, { place, owner, description: feature.description });
    }
  }
  for (const { name, owner, description } of catalog.sources) {
    add("source", name, href("sources", name), { owner, description });
  }
  for (const { name, join_keys: keys, description } of catalog.entities) {
    add("entity", name, href("entities", name), { place: keys.join(", "), description });
  }
  return found;
}

/** The address of a page, with any name. */
export function href(...parts) {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

/** The entries that have every word of a text somewhere, the best first. */
export function search(index, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const found = [];
  for (const entry of index) {
    let score = 0;
    for (const word of words) {
      const best = worth(entry.words, word);
      if (!best) {
        score = 0;
        break;
      }
      score += best;
    }
    if (score) found.push({ entry, score });
  }
  found.sort((a, b) => b.score - a.score || compare(a.entry.title, b.entry.title));
  return found.map(({ entry }) => entry);
}

function compare(a, b) {
  return a < b ? -1 : Number(a > b);
}

function worth(words, word) {
  let best = 0;
  for (const [field, weight] of Object.entries(WEIGHTS)) {
    const text = words[field];
    const at = text.indexOf(word);
    if (at < 0) continue;
    const begins = at === 0 || !/[\p{L}\p{N}]/u.test(text[at - 1]);
    const whole = begins && !/[\p{L}\p{N}_]/u.test(text[at + word.length] ?? " ");
    best = Math.max(best, weight + (begins ? weight : 0) + (whole ? weight : 0) + (text === word ? 40 : 0));
  }
  return best;
}
