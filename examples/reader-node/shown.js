/**
 * For `JSON.stringify`: `{"int": "9223372036854775807"}`, `{"float": "NaN"}`, for numbers that JSON does not have or
 * JavaScript would read as others.
 */
export function shown(_, value) {
  if (typeof value === "bigint") return { int: String(value) };
  if (typeof value !== "number" || (Number.isFinite(value) && !Object.is(value, -0))) return value;
  return { float: Object.is(value, -0) ? "-0" : String(value) };
}
