/** What the terminal that we write to can show: its width, colours, and letters beyond ASCII. */

const WIDTH_MIN = 60;
const WIDTH_MAX = 200;
/** Where nobody is at the other end: a file or a pipe. */
const WIDTH_DEFAULT = 100;

type Stream = { readonly isTTY?: boolean; readonly columns?: number };
type Environment = Readonly<Record<string, string | undefined>>;

/** Columns from 60 to 200: as asked, else the terminal's own, else $COLUMNS, else 100. */
export function widthOf(stream: Stream, environment: Environment, asked?: number): number {
  const columns = Number(environment["COLUMNS"] ?? "");
  const known =
    asked ?? (stream.isTTY === true ? stream.columns : undefined) ?? (columns > 0 ? columns : WIDTH_DEFAULT);
  return Math.min(WIDTH_MAX, Math.max(WIDTH_MIN, Math.floor(known)));
}

/** Colours where a person looks: never where NO_COLOR says so (no-color.org), always where FORCE_COLOR does. */
export function showsColour(stream: Stream, environment: Environment): boolean {
  if ((environment["NO_COLOR"] ?? "") !== "") return false;
  if ((environment["FORCE_COLOR"] ?? "") !== "") return environment["FORCE_COLOR"] !== "0";
  return stream.isTTY === true && environment["TERM"] !== "dumb";
}

/** Whether block characters can be shown: a locale that names another encoding than UTF-8 cannot. */
export function showsUnicode(environment: Environment): boolean {
  const locale = environment["LC_ALL"] || environment["LC_CTYPE"] || environment["LANG"] || "";
  return locale === "" || locale === "C" || locale === "POSIX" || /utf-?8/i.test(locale);
}
