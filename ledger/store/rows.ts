/** Reading columns: what the tables promise, checked. Integers and money are selected as text, so that no driver rounds them. */
import { Bug } from "../../core/assert.ts";
import type { Row } from "./database.ts";

export function text(row: Row, column: string): string {
  const value = row[column];
  if (typeof value !== "string") throw new Bug(`the column ${column} holds text`);
  return value;
}

export const integer = (row: Row, column: string): number => Number(text(row, column));

export function bytes(row: Row, column: string): Uint8Array {
  const value = row[column];
  if (!(value instanceof Uint8Array)) throw new Bug(`the column ${column} holds bytes`);
  return value;
}
