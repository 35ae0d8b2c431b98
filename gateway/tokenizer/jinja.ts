/**
 * Chat templates as transformers runs them. The interpreter is Hugging Face's; the names that a template finds around it
 * are ours, because the library's own read the wall clock by themselves, name months in the machine's language, and let
 * a template ask for a range of any length.
 */
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import type { JsonObject } from "../../core/json.ts";
import { addPython, asPython } from "./python-values.ts";

export type CompiledTemplate = {
  /** The text. Throws what the template raises, and where it uses something that the interpreter lacks. */
  render(names: JsonObject, now: Date): string;
};

/** Throws where `source` is no Jinja. */
export function compileTemplate(source: string): CompiledTemplate {
  const program = asPython(new Template(source).parsed);
  return {
    render(names, now) {
      const environment = new Environment();
      addPython(environment, (value) => new Environment().set("value", value));
      for (const [name, value] of Object.entries({ ...CONSTANTS, ...functionsAt(now), ...names }))
        environment.set(name, value);
      const rendered: { value: unknown } = new Interpreter(environment).run(program);
      return String(rendered.value);
    },
  };
}

const CONSTANTS = { true: true, false: false, none: null, True: true, False: false, None: null };

/** Jinja's sandbox has the same. Attacker: a template that comes with a model could ask for all memory there is. */
const RANGE_MAX = 100_000;

const functionsAt = (now: Date) => ({
  raise_exception: (message: unknown): never => {
    throw new Error(String(message));
  },
  range,
  strftime_now: (format: unknown): string => formatTime(now, String(format)),
});

/** Python's: up to `start` where there is no `stop`. */
function range(start: number, stop?: number, step = 1): number[] {
  const [first, end] = stop === undefined ? [0, start] : [start, stop];
  if (step === 0) throw new Error("range() arg 3 must not be zero");
  const count = Math.max(0, Math.ceil((end - first) / step));
  if (!(count <= RANGE_MAX)) throw new Error(`Range too big. The sandbox blocks ranges larger than ${RANGE_MAX}.`);
  return Array.from({ length: count }, (_, index) => first + index * step);
}

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

/** What each directive of C's strftime stands for, in the C locale and the machine's time zone. */
const DIRECTIVES: Readonly<Record<string, (time: Date) => string>> = {
  a: (time) => nameOf(DAYS, time.getDay()).slice(0, 3),
  A: (time) => nameOf(DAYS, time.getDay()),
  b: (time) => nameOf(MONTHS, time.getMonth()).slice(0, 3),
  B: (time) => nameOf(MONTHS, time.getMonth()),
  d: (time) => digits(time.getDate(), 2),
  e: (time) => String(time.getDate()).padStart(2),
  f: (time) => digits(time.getMilliseconds() * 1000, 6),
  H: (time) => digits(time.getHours(), 2),
  I: (time) => digits(time.getHours() % 12 || 12, 2),
  j: (time) => digits(dayOfYear(time), 3),
  m: (time) => digits(time.getMonth() + 1, 2),
  M: (time) => digits(time.getMinutes(), 2),
  p: (time) => (time.getHours() < 12 ? "AM" : "PM"),
  S: (time) => digits(time.getSeconds(), 2),
  w: (time) => String(time.getDay()),
  y: (time) => digits(time.getFullYear() % 100, 2),
  Y: (time) => String(time.getFullYear()),
  D: (time) => formatTime(time, "%m/%d/%y"),
  F: (time) => formatTime(time, "%Y-%m-%d"),
  R: (time) => formatTime(time, "%H:%M"),
  T: (time) => formatTime(time, "%H:%M:%S"),
  x: (time) => formatTime(time, "%m/%d/%y"),
  X: (time) => formatTime(time, "%H:%M:%S"),
  c: (time) => formatTime(time, "%a %b %e %H:%M:%S %Y"),
  n: () => "\n",
  t: () => "\t",
  "%": () => "%",
};

const nameOf = (names: readonly string[], index: number): string => names[index] ?? "";
const digits = (value: number, width: number): string => String(value).padStart(width, "0");

/** `%-d` leaves out what pads a number. Unknown directives stay as they are. */
function formatTime(time: Date, format: string): string {
  return format.replace(/%(-?)([a-zA-Z%])/g, (directive: string, bare: string, letter: string) => {
    const text = DIRECTIVES[letter]?.(time);
    if (text === undefined) return directive;
    return bare === "" ? text : text.replace(/^[0 ]+(?=.)/, "");
  });
}

/** By the calendar, not by hours: days on which clocks change have 23 or 25. */
const dayOfYear = (time: Date): number =>
  (Date.UTC(time.getFullYear(), time.getMonth(), time.getDate()) - Date.UTC(time.getFullYear(), 0, 0)) / 86_400_000;
