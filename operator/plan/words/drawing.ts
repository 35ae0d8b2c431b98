/**
 * The picture of a plan in a terminal: layers across, chains down, the ranks of a tensor-parallel segment stacked. Names
 * that do not fit get a letter and a line below. No line is wider than asked; every node that holds something is named.
 */
import { lengthOf } from "../../../core/ranges.ts";
import type { Assignment } from "../types.ts";
import { type Charset, type Line, type Span, allot, cutAt, wrapPieces } from "./lines.ts";
import { type Block, type Hop, type Row, type View, sharePercent } from "./view.ts";
import { formatMillis, formatRate } from "./figures.ts";

export type DrawingStyle = { readonly width: number; readonly charset: Charset };

/** A line of the picture takes at least so many columns; narrower ones are drawn as if it were so wide. */
export const WIDTH_MIN = 60;
const LABEL_WIDTH = 10;
/** Between the ranks of a group. */
const GROUP = " + ";
/** A bar, a letter and a filling. */
const BLOCK_WIDTH_MIN = 3;
const KEYS = [..."abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"];

type Note = { readonly key: string; readonly block: Block };

/** The rows of the view, each with an axis below, then what the colours and marks mean. */
export function drawPlan(view: View, style: DrawingStyle): readonly Line[] {
  const width = Math.max(WIDTH_MIN, style.width);
  const charset = view.estimated === "some" ? style.charset : { ...style.charset, estimated: "" };
  const wide = { charset, width };
  const rows = view.rows.flatMap((row) => drawRow(row, view, wide));
  return [...rows, ...legend(view, wide)];
}

function drawRow(row: Row, view: View, style: DrawingStyle): readonly Line[] {
  if (row.chain === undefined) {
    const [first = [], ...rest] = noteLines(
      row.blocks.map((block) => ({ key: "", block })),
      style,
    );
    return [[{ text: row.title.padEnd(LABEL_WIDTH), tone: "strong" }, ...first.slice(1)], ...rest];
  }
  const columnCount = style.width - LABEL_WIDTH - 1;
  const perLine = Math.floor(columnCount / BLOCK_WIDTH_MIN);
  const lineCount = Math.ceil(row.blocks.length / perLine);
  const notes: Note[] = [];
  const lines: Line[] = [];
  for (let index = 0; index < lineCount; index++) {
    const from = Math.round((index * row.blocks.length) / lineCount);
    const to = Math.round(((index + 1) * row.blocks.length) / lineCount);
    const label = index === 0 ? row.title : "";
    lines.push(
      ...drawBlocks(row.blocks.slice(from, to), row.hops.slice(from, to), { label, columnCount, view, style, notes }),
    );
  }
  return [...lines, ...noteLines(notes, style), ...(view.rows.length > 1 ? figuresOf(row) : [])];
}

function figuresOf(row: Row): readonly Line[] {
  if (row.tokensPerSecond === undefined || row.millisecondsPerToken === undefined) return [];
  const text = `${formatRate(row.tokensPerSecond)} tok/s, ${formatMillis(row.millisecondsPerToken)}/token`;
  return [[{ text: " ".repeat(LABEL_WIDTH) }, { text, tone: "dim" }]];
}

type Frame = {
  readonly label: string;
  readonly columnCount: number;
  readonly view: View;
  readonly style: DrawingStyle;
  readonly notes: Note[];
};

function drawBlocks(blocks: readonly Block[], hops: readonly Hop[], frame: Frame): readonly Line[] {
  const { columnCount, style } = frame;
  const lengths = blocks.map(({ layers }) => lengthOf(layers));
  const wanted = blocks.map((block) => Math.max(...block.ranks.map((rank) => nameOf(block, rank, style).length)) + 2);
  const fits = wanted.reduce((sum, columns) => sum + columns, 0) <= columnCount;
  const widths = allot(lengths, fits ? wanted : blocks.map(() => BLOCK_WIDTH_MIN), columnCount);
  const depth = Math.max(...blocks.map(({ ranks }) => ranks.length));
  const cells = blocks.map((block, index) => cellsOf(block, (widths[index] ?? 0) - 1, depth, frame));
  const bars = Array.from({ length: depth }, (_, line): Line => {
    const label: Span = { text: (line === 0 ? frame.label : "").padEnd(LABEL_WIDTH), tone: "strong" };
    return [label, ...cells.flatMap((cell): Line => [{ text: "|" }, ...(cell[line] ?? [])]), { text: "|" }];
  });
  return [...bars, axisOf(blocks, hops, widths, frame)];
}

/** The lines of one block: names on the first line of each rank, its provider's fill after them. */
function cellsOf(block: Block, inner: number, depth: number, frame: Frame): readonly Line[] {
  const { style, notes, view } = frame;
  const names = block.ranks.map((rank) => nameOf(block, rank, style));
  const fit = names.every((name) => name.length <= inner);
  const plain = block.ranks.every(({ node }) => node.length <= inner);
  const key = fit || plain ? "" : keyOf(notes.length);
  if (!fit && (!plain || hasMarks(block))) notes.push({ key, block });
  return Array.from({ length: depth }, (_, line): Line => {
    const index = Math.floor((line * block.ranks.length) / depth);
    const rank = block.ranks[index];
    if (rank === undefined) return [];
    const isFirst = line === 0 || Math.floor(((line - 1) * block.ranks.length) / depth) < index;
    const provider = view.providers.indexOf(rank.provider);
    const name = !isFirst ? "" : fit ? (names[index] ?? "") : key === "" ? rank.node : index === 0 ? key : "";
    const fill = block.isGuest
      ? style.charset.guest
      : (style.charset.fills[provider % style.charset.fills.length] ?? "");
    const room = inner - name.length;
    const gap = name !== "" && room > 1 ? " " : "";
    return [
      { text: name, provider, tone: "strong" },
      { text: gap + fill.repeat(Math.max(0, room - gap.length)), provider },
    ];
  });
}

const keyOf = (index: number): string => KEYS[index % KEYS.length] ?? "?";
const hasMarks = (block: Block): boolean => block.isEstimated || block.isBottleneck || block.alsoOn.length > 0;

/** The node's name with its part of the group and the marks of its segment. */
function nameOf(block: Block, rank: Assignment, { charset }: DrawingStyle): string {
  const share = block.ranks.length > 1 ? ` ${sharePercent(rank)}%` : "";
  return `${block.isEstimated ? charset.estimated : ""}${rank.node}${share}${rank.rank === 0 ? marksOf(block, charset) : ""}`;
}

function marksOf({ isBottleneck, alsoOn }: Block, charset: Charset): string {
  const shared = alsoOn.length === 0 ? "" : ` ${charset.shared}${alsoOn.join(",")}`;
  return `${isBottleneck ? ` ${charset.bottleneck}` : ""}${shared}`;
}

/** Layer numbers where segments meet, with the trip to the next; the segment's time between them where there is room. */
function axisOf(blocks: readonly Block[], hops: readonly Hop[], widths: readonly number[], frame: Frame): Line {
  const { columnCount, style } = frame;
  const cells: string[] = new Array<string>(columnCount + 1).fill(" ");
  const write = (at: number, text: string): boolean => {
    const characters = [...text];
    const room = cells.slice(Math.max(0, at - 1), at + characters.length + 1);
    if (at < 0 || at + characters.length > cells.length || room.some((cell) => cell !== " ")) return false;
    characters.forEach((character, index) => (cells[at + index] = character));
    return true;
  };
  const edges = [0];
  for (const width of widths) edges.push((edges.at(-1) ?? 0) + width);
  const last = String(blocks.at(-1)?.layers.end ?? 0);
  write(columnCount + 1 - last.length, last);
  for (const [index, block] of blocks.entries()) {
    const at = edges[index] ?? 0;
    const start = String(block.layers.start);
    const hop = index === 0 ? undefined : hops[index - 1];
    const trip = tripText(hop, style.charset);
    if (!fitsIn(start + trip, widths[index] ?? 0) || !write(at, start + trip)) write(at, start);
  }
  for (const [index, block] of blocks.entries()) {
    const time = formatMillis(block.milliseconds);
    const middle = (edges[index] ?? 0) + Math.floor(((widths[index] ?? 0) - time.length) / 2) + 1;
    for (const shift of [0, 2, 4, 6]) if (write(middle + shift, time)) break;
  }
  return [{ text: " ".repeat(LABEL_WIDTH) }, { text: cells.join(""), tone: "dim" }];
}

function tripText(hop: Hop | undefined, charset: Charset): string {
  if (hop === undefined || hop.milliseconds === 0) return "";
  const mark = hop.isBottleneck ? ` ${charset.bottleneck}` : "";
  return ` ${charset.trip}${hop.isEstimated ? charset.estimated : ""}${formatMillis(hop.milliseconds)}${mark}`;
}

const fitsIn = (text: string, width: number): boolean => text.length + 1 < width;

/** `a garage-3, layers 12–20`: what the letters stand for, and marks that found no room. */
function noteLines(notes: readonly Note[], style: DrawingStyle): readonly Line[] {
  const texts = notes.map(({ key, block }) => {
    const { start, end } = block.layers;
    const names = block.ranks.map((rank) => nameOf(block, rank, style)).join(GROUP);
    return `${key === "" ? "" : `${key}: `}${names} ${start}${style.charset.dash}${end}`;
  });
  if (texts.length === 0) return [];
  const rest = " ".repeat(LABEL_WIDTH);
  const room = style.width - LABEL_WIDTH - 1;
  const pieces = texts.flatMap((text) => cutAt(text, GROUP, room)).map((text): Line => [{ text }]);
  return wrapPieces(pieces, { width: style.width, separator: ", ", first: [{ text: rest }], rest });
}

function legend(view: View, { width, charset }: DrawingStyle): readonly Line[] {
  const blocks = view.rows.flatMap((row) => row.blocks);
  const hops = view.rows.flatMap((row) => row.hops);
  const pieces: Line[] = view.providers.map((name, provider): Line => {
    const fill = (charset.fills[provider % charset.fills.length] ?? "").repeat(2);
    return [{ text: fill, provider }, { text: ` ${name}` }];
  });
  const mark = (is: boolean, text: string) => is && pieces.push([{ text, tone: "dim" }]);
  const isBottleneck = (of: Block | Hop) => of.isBottleneck;
  mark(blocks.some(isBottleneck) || hops.some(isBottleneck), `${charset.bottleneck} bottleneck`);
  mark(view.estimated === "some", `${charset.estimated} not measured: estimated`);
  mark(view.estimated === "all", "all times estimated, none measured");
  mark(
    blocks.some(({ alsoOn }) => alsoOn.length > 0),
    `${charset.shared}N shared with chain N`,
  );
  mark(
    blocks.some(({ isGuest }) => isGuest),
    `${charset.guest} at home in the other chain`,
  );
  mark(
    hops.some(({ milliseconds }) => milliseconds > 0),
    `${charset.trip} round trip`,
  );
  const first: Line = [{ text: "key".padEnd(LABEL_WIDTH) }];
  return pieces.length === 0
    ? []
    : wrapPieces(pieces, { width, separator: "  ", first, rest: " ".repeat(LABEL_WIDTH) });
}
