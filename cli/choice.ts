/** Options whose value is one of a few words. */
import { RefusalError, refuse } from "../core/result.ts";

/** `text`, if it is one of `all`; otherwise throws a RefusalError that names them. `option` as the user wrote it: `-o`. */
export function choice<T extends string>(option: string, text: string, all: readonly T[]): T {
  const found = all.find((each) => each === text);
  if (found !== undefined) return found;
  const words = `${all.slice(0, -1).join(", ")} or ${all.at(-1)}`;
  throw new RefusalError(refuse("BadOption", `${option} ${text}: choose ${words}`));
}
