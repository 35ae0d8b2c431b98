/**
 * The greatest sum of amounts of columns, where each column takes its amount from each of its rows and a row has only so
 * much: a packing programme, solved by the simplex method on a dense table. Small: chains over holdings and links.
 */
const SLACK = 1e-9;

/** The amount of each column. `rows[c]` are the rows that column c takes from; `limits` are at least 0. */
export function pack(rows: readonly (readonly number[])[], limits: readonly number[]): readonly number[] {
  const [columnCount, rowCount] = [rows.length, limits.length];
  const width = columnCount + 1; // slack columns need not be kept: a basis change swaps names
  const scale = limits.reduce((most, limit) => Math.max(most, limit), 0) || 1;
  const table = Array.from({ length: rowCount + 1 }, () => new Float64Array(width));
  rows.forEach((list, column) => {
    for (const row of list) put(table, row, column, 1);
    put(table, rowCount, column, -1);
  });
  limits.forEach((limit, row) => put(table, row, columnCount, limit / scale));
  const inColumn = Array.from({ length: columnCount }, (_, column) => column); // names: below columnCount a column
  const inRow = Array.from({ length: rowCount }, (_, row) => columnCount + row);
  for (let round = 0; round < 50 * (rowCount + columnCount); round += 1) {
    const column = entering(table, rowCount, columnCount, inColumn, round > 4 * (rowCount + columnCount));
    if (column < 0) break;
    const row = leaving(table, rowCount, columnCount, column, inRow);
    if (row < 0) break;
    pivot(table, row, column);
    const [a, b] = [inColumn[column] ?? 0, inRow[row] ?? 0];
    inColumn[column] = b;
    inRow[row] = a;
  }
  const amounts = new Array<number>(columnCount).fill(0);
  inRow.forEach((name, row) => {
    if (name < columnCount) amounts[name] = Math.max(0, get(table, row, columnCount) * scale);
  });
  return amounts;
}

const get = (table: readonly Float64Array[], row: number, column: number): number => table[row]?.[column] ?? 0;
const put = (table: readonly Float64Array[], row: number, column: number, value: number): void => {
  const line = table[row];
  if (line !== undefined) line[column] = value;
};

/** The steepest column; the first by name once it has gone on for long, which cannot go round in circles (Bland). */
function entering(
  table: readonly Float64Array[],
  rowCount: number,
  columnCount: number,
  names: readonly number[],
  byName: boolean,
): number {
  let best = -1;
  for (let column = 0; column < columnCount; column += 1) {
    const gain = -get(table, rowCount, column);
    if (gain <= SLACK) continue;
    const isBetter = byName
      ? (names[column] ?? 0) < (names[best] ?? Number.POSITIVE_INFINITY)
      : gain > -get(table, rowCount, best);
    if (best < 0 || isBetter) best = column;
  }
  return best;
}

function leaving(
  table: readonly Float64Array[],
  rowCount: number,
  columnCount: number,
  column: number,
  names: readonly number[],
): number {
  let best = -1;
  let least = Number.POSITIVE_INFINITY;
  for (let row = 0; row < rowCount; row += 1) {
    const share = get(table, row, column);
    if (share <= SLACK) continue;
    const ratio = get(table, row, columnCount) / share;
    const isEqual = Math.abs(ratio - least) <= SLACK;
    if (isEqual ? (names[row] ?? 0) < (names[best] ?? 0) : ratio < least) {
      best = row;
      least = ratio;
    }
  }
  return best;
}

/** Swaps the row's name with the column's. */
function pivot(table: readonly Float64Array[], row: number, column: number): void {
  const line = table[row] ?? new Float64Array(0);
  const by = 1 / (line[column] ?? 1);
  for (let index = 0; index < line.length; index += 1) line[index] = (line[index] ?? 0) * by;
  line[column] = by;
  table.forEach((other, index) => {
    const share = other[column] ?? 0;
    if (index === row || share === 0) return;
    for (let at = 0; at < other.length; at += 1) other[at] = (other[at] ?? 0) - share * (line[at] ?? 0);
    other[column] = -share * by;
  });
}
