// Elements made of texts alone: whatever a name or a description holds, it stays a text.

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes, `on…` listeners, and children that are nodes, texts, lists or nothing. */
export function h(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same of a drawing. */
export function s(name, attributes, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

/** A link within the page. */
export function link(href, ...children) {
  return h("a", { href }, ...children);
}

/** Names and values beside each other; a value that is nothing takes its name with it. */
export function facts(pairs) {
  const told = pairs.filter(
    ([, value]) => value !== null && value !== undefined && value !== "" && value?.length !== 0,
  );
  return h(
    "dl",
    { class: "facts" },
    told.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

/** A table that scrolls by itself where it is too wide; on a phone, each row is a list of named values. */
export function table(columns, rows, label) {
  const head = h(
    "tr",
    { role: "row" },
    columns.map((column) => h("th", { scope: "col", role: "columnheader" }, column)),
  );
  const cell = (value, place) => h("td", { role: "cell", "data-name": place ? columns[place] : null }, value ?? "");
  const body = rows.map((row) => h("tr", { role: "row" }, row.map(cell)));
  const parts = [h("thead", { role: "rowgroup" }, head), h("tbody", { role: "rowgroup" }, body)];
  return h(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": label },
    h("table", { role: "table" }, parts),
  );
}

/** A part of a page under a heading, for which there is an anchor. */
export function section(title, ...children) {
  return h("section", {}, h("h2", {}, title), ...children);
}

/** A small word with a colour. */
export function badge(text, kind = "") {
  return h("span", { class: `badge ${kind}` }, text);
}
