/**
 * Where the template interpreter follows JavaScript and templates were written for Python: how values turn into text
 * (`True`, `None`, `{'a': 1}`), when they are equal, what is in what, what `strip` takes away. Those operations of a parsed
 * template are replaced by calls of the functions here, under names that no template can spell.
 */
import type { Environment, Template } from "@huggingface/jinja";

/** A value of the interpreter's; lists and mappings hold such values again. */
type Value = { readonly type: string; readonly value: unknown };
type Node = { type: string; [part: string]: unknown };

const TEXT = "| string";
const OPERATORS: Readonly<Record<string, (left?: Value, right?: Value) => unknown>> = {
  "==": areEqual,
  "!=": (left, right) => !areEqual(left, right),
  in: isIn,
  "not in": (left, right) => !isIn(left, right),
  "~": (left, right) => textOf(left) + textOf(right),
};

/** Methods of str, by name; `given` are the arguments, texts where they are texts. */
const METHODS: Readonly<Record<string, (text: string, ...given: readonly unknown[]) => unknown>> = {
  strip: (text, characters) => stripped(text, characters, true, true),
  lstrip: (text, characters) => stripped(text, characters, true, false),
  rstrip: (text, characters) => stripped(text, characters, false, true),
  capitalize: (text) => text.slice(0, 1).toUpperCase() + text.slice(1).toLowerCase(),
  removeprefix: (text, prefix) => (text.startsWith(String(prefix)) ? text.slice(String(prefix).length) : text),
  removesuffix: (text, suffix) =>
    suffix !== "" && text.endsWith(String(suffix)) ? text.slice(0, -String(suffix).length) : text,
  splitlines: (text) => (text === "" ? [] : text.replace(/(\r\n|\n|\r)$/, "").split(/\r\n|\n|\r/)),
  find: (text, part) => text.indexOf(String(part)),
};
/** Filters that are such a method of what they are given, as text. */
const METHOD_OF_FILTER: Readonly<Record<string, string>> = { trim: "strip", capitalize: "capitalize" };

/** Filters that turn what they are given into text first. */
const TEXT_FILTERS: ReadonlySet<string> = new Set([
  "string",
  "trim",
  "upper",
  "lower",
  "title",
  "capitalize",
  "replace",
]);

/** Lists of statements, in which an expression stands for its text. */
const BLOCKS: ReadonlySet<string> = new Set(["body", "alternate", "defaultBlock"]);
const STATEMENTS: ReadonlySet<string> = new Set([
  "If",
  "For",
  "Break",
  "Continue",
  "Set",
  "Macro",
  "Comment",
  "CallStatement",
  "FilterStatement",
  "StringLiteral", // the text between tags
]);

/** Rewrites a parsed template in place, so that it runs as Python would run it. */
export function asPython(program: Template["parsed"]): Template["parsed"] {
  const prototype: object = Object.getPrototypeOf(Object.getPrototypeOf(program)); // that of any statement
  const call = (name: string, ...args: readonly unknown[]): Node =>
    Object.assign(Object.create(prototype), { type: "CallExpression", callee: identifier(name), args });
  const identifier = (value: string): Node => Object.assign(Object.create(prototype), { type: "Identifier", value });

  const rewritten = (part: unknown, isBlock = false): unknown => {
    if (Array.isArray(part)) return part.map((item) => (isBlock ? shownIn(rewritten(item)) : rewritten(item)));
    if (part instanceof Map) return new Map([...part].map(([key, value]) => [rewritten(key), rewritten(value)]));
    if (!isNode(part)) return part;
    for (const [name, value] of Object.entries(part)) part[name] = rewritten(value, BLOCKS.has(name));
    if (part.type === "BinaryExpression") {
      const operator = isNode(part["operator"]) ? String(part["operator"]["value"]) : "";
      if (Object.hasOwn(OPERATORS, operator)) return call(`| ${operator}`, part["left"], part["right"]);
    }
    if (part.type === "CallExpression" && isNode(part["callee"]) && part["callee"].type === "MemberExpression") {
      const { object, property, computed } = part["callee"];
      const method = computed === true || !isNode(property) ? "" : String(property["value"]);
      if (Object.hasOwn(METHODS, method) && Array.isArray(part["args"]))
        return call(`| .${method}`, object, ...part["args"]);
    }
    if (part.type === "FilterExpression") {
      const name = filterName(part["filter"]);
      if (name === "string") return call(TEXT, part["operand"]);
      const filter = part["filter"];
      if ((name === "select" || name === "reject") && isNode(filter) && Array.isArray(filter["args"]))
        return call(`| ${name}`, part["operand"], ...filter["args"]);
      const method = METHOD_OF_FILTER[name];
      if (method !== undefined && isNode(part["filter"]) && part["filter"].type === "Identifier")
        return call(`| .${method}`, call(TEXT, part["operand"]));
      if (TEXT_FILTERS.has(name)) part["operand"] = call(TEXT, part["operand"]);
    }
    return part;
  };
  const shownIn = (part: unknown): unknown => (isNode(part) && !STATEMENTS.has(part.type) ? call(TEXT, part) : part);
  rewritten(program);
  return program;
}

/** Gives `environment` the functions that rewritten templates call; `valueFrom` makes a value of the interpreter's. */
export function addPython(environment: Environment, valueFrom: (value: unknown) => unknown): void {
  const functions: Readonly<Record<string, (...values: readonly Value[]) => unknown>> = {
    [TEXT]: (value) => textOf(value),
    ...Object.fromEntries(Object.entries(OPERATORS).map(([operator, run]) => [`| ${operator}`, run])),
    ...Object.fromEntries(Object.entries(METHODS).map(([method, run]) => [`| .${method}`, onText(method, run)])),
  };
  for (const keeps of [true, false]) {
    const made = environment.set(keeps ? "| select" : "| reject", () => null);
    const value = (values: readonly Value[]) => Object.assign(Object(valueFrom([])), { value: chosen(values, keeps) }); // the items themselves, not copies
    Object.assign(made, { value });
  }
  for (const [name, run] of Object.entries(functions)) {
    // A function set by name sees bare values, and 1.0 as 1; its inside is replaced by one that sees their kinds.
    const made = environment.set(name, () => null);
    Object.assign(made, { value: (values: readonly Value[]) => valueFrom(run(...values)) });
  }
}

const TESTS: Readonly<Record<string, (item: Value, other?: Value) => boolean>> = {
  equalto: areEqual,
  eq: areEqual,
  "==": areEqual,
  ne: (item, other) => !areEqual(item, other),
  "!=": (item, other) => !areEqual(item, other),
  in: isIn,
  string: ({ type }) => type === "StringValue",
  mapping: ({ type }) => type === "ObjectValue",
  none: ({ type }) => type === "NullValue",
  defined: ({ type }) => type !== "UndefinedValue",
};

/** The items of a list that pass a named test, or those that do not. */
function chosen([list, test, other]: readonly Value[], keeps: boolean): readonly Value[] {
  const name = String(test?.value);
  const passes = Object.hasOwn(TESTS, name) ? TESTS[name] : undefined;
  if (!Array.isArray(list?.value)) throw new Error(`${list?.type ?? "nothing"} is no list to choose from`);
  if (passes === undefined) throw new Error(`the test ${name} is not known here`);
  return list.value.filter((item: Value) => passes(item, other) === keeps);
}

const onText =
  (method: string, run: (text: string, ...given: readonly unknown[]) => unknown) =>
  (text?: Value, ...given: readonly Value[]): unknown => {
    if (typeof text?.value !== "string") throw new Error(`${text?.type ?? "nothing"} has no ${method}`);
    return run(text.value, ...given.map(({ value }) => value));
  };

const isNode = (part: unknown): part is Node =>
  typeof part === "object" && part !== null && "type" in part && typeof part.type === "string";

function filterName(filter: unknown): string {
  if (!isNode(filter)) return "";
  const name = filter.type === "Identifier" ? filter : filter["callee"];
  return isNode(name) ? String(name["value"]) : "";
}

/** Python's str(). */
function textOf(value: Value | undefined): string {
  if (value === undefined || value.type === "UndefinedValue") return "";
  return value.type === "StringValue" ? String(value.value) : shownAsPython(value);
}

/** Python's repr(). */
function shownAsPython(value: Value): string {
  const inner = value.value;
  if (value.type === "NullValue") return "None";
  if (value.type === "UndefinedValue") return "Undefined";
  if (typeof inner === "boolean") return inner ? "True" : "False";
  if (typeof inner === "string") return quoted(inner);
  if (Array.isArray(inner)) {
    const items = inner.map(shownAsPython).join(", ");
    if (value.type !== "TupleValue") return `[${items}]`;
    return inner.length === 1 ? `(${items},)` : `(${items})`;
  }
  if (inner instanceof Map)
    return `{${[...inner].map(([key, item]) => `${quoted(String(key))}: ${shownAsPython(item)}`).join(", ")}}`;
  return String(value);
}

const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\\\n\r\t\p{Cc}]/gu, (character) => {
    const code = character.charCodeAt(0).toString(16).padStart(2, "0");
    return ESCAPES[character] ?? `\\x${code}`;
  });
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

const isNumeric = (value: unknown): value is number | boolean =>
  typeof value === "number" || typeof value === "boolean";

function areEqual(left: Value | undefined, right: Value | undefined): boolean {
  const [a, b] = [left?.value, right?.value];
  if (isNumeric(a) && isNumeric(b)) return Number(a) === Number(b);
  if (left?.type !== right?.type) return false;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, index) => areEqual(item, b[index]));
  if (a instanceof Map && b instanceof Map)
    return a.size === b.size && [...a].every(([key, item]) => b.has(key) && areEqual(item, b.get(key)));
  return a === b;
}

function isIn(item: Value | undefined, within: Value | undefined): boolean {
  if (within === undefined || within.type === "UndefinedValue") return false;
  const [member, inner] = [item?.value, within.value];
  if (Array.isArray(inner)) return inner.some((each) => areEqual(item, each));
  if (inner instanceof Map) return typeof member === "string" && inner.has(member);
  if (typeof inner === "string" && typeof member === "string") return inner.includes(member);
  throw new Error(`${item === undefined ? "nothing" : item.type} cannot be looked for in ${within.type}`);
}

/** Python's white space: the separators of ASCII and "next line" besides JavaScript's, but not the byte order mark. */
const isWhite = (character: string): boolean =>
  (/\s/.test(character) && character !== "\uFEFF") || "\u001C\u001D\u001E\u001F\u0085".includes(character);

/** `characters`: the set to take away; white space where it is no text. */
function stripped(text: string, characters: unknown, left: boolean, right: boolean): string {
  const goes = (character: string | undefined): boolean =>
    character !== undefined && (typeof characters === "string" ? characters.includes(character) : isWhite(character));
  let [start, end] = [0, text.length];
  while (left && start < end && goes(text[start])) start += 1;
  while (right && end > start && goes(text[end - 1])) end -= 1;
  return text.slice(start, end);
}
