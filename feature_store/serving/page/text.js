// Numbers and times as people read them.

const STEPS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** A length of time in its two largest units: `1 h 5 min`. */
export function length(seconds) {
  if (seconds < 1) return "under 1 s";
  const told = [];
  let left = Math.floor(seconds);
  for (const [size, unit] of STEPS) {
    const count = Math.floor(left / size);
    left %= size;
    if (count) told.push(`${count} ${unit}`);
    else if (told.length) break;
  }
  return told.slice(0, 2).join(" ");
}

export function percent(share) {
  return `${(share * 100).toFixed(share && share < 0.1 ? 1 : 0)} %`;
}

/** A number with as many digits as it is worth. */
export function number(value) {
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3
    ? value.toExponential(2)
    : Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });
}

export function moment(text) {
  return `${text.slice(0, 16).replace("T", " ")} UTC`;
}

export function momentOf(micros) {
  return moment(new Date(micros / 1000).toISOString());
}

/** Any value of a definition as a text. */
export function shown(value) {
  if (value === null || value === undefined || value === "") return "none";
  if (typeof value !== "object") return String(value);
  const told = Array.isArray(value)
    ? value.map(shown)
    : Object.entries(value).map(([name, each]) => `${name}: ${shown(each)}`);
  return told.length ? told.join(", ") : "none";
}

export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}
