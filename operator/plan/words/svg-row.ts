/** One chain of the SVG: bars on the common scale of layers, round trips above where they meet, times below. */
import { lengthOf } from "../../../core/ranges.ts";
import { formatMillis } from "./figures.ts";
import {
  type Box,
  charactersIn,
  fillClass,
  isHatched,
  lineElement,
  rectElement,
  textElement,
  textWidth,
} from "./svg-elements.ts";
import { type Block, type Row, type View, layersText, nodesOf, sharePercent } from "./view.ts";
import { cutAt, wrapPieces } from "./lines.ts";

export type Scale = { readonly x: number; readonly width: number; readonly layerCount: number };
export type Drawn = { readonly elements: readonly string[]; readonly height: number };

const RANK_HEIGHT = 24;
const BAR_HEIGHT_MIN = 46;
const TRIP_LEVELS = 2;
const TRIP_HEIGHT = 15;
const TIME_HEIGHT = 20;
const NOTE_HEIGHT = 16;
const ROW_GAP = 14;
const INSET = 6;
const KEYS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

export const xOf = ({ x, width, layerCount }: Scale, layer: number): number => x + (width * layer) / layerCount;

export function drawRow(row: Row, view: View, scale: Scale, top: number, left: number): Drawn {
  const trips = tripsOf(row, view, scale);
  const barTop = top + 4 + TRIP_HEIGHT * Math.max(1, trips.levelCount);
  const height = Math.max(BAR_HEIGHT_MIN, RANK_HEIGHT * Math.max(...row.blocks.map(({ ranks }) => ranks.length)));
  const notes: string[] = [];
  const elements = [
    ...labelOf(row, left, barTop, height),
    ...trips.texts.map(({ x, level, text, isBottleneck }) =>
      textElement(x, barTop - 5 - TRIP_HEIGHT * level, text, {
        size: 11,
        class: isBottleneck ? "alarm" : "quiet",
        anchor: "middle",
      }),
    ),
    ...row.blocks.flatMap((block) => drawBlock(block, view, boxOf(block, scale, barTop, height), notes)),
    ...timesOf(row.blocks, scale, barTop + height + 14),
  ];
  const noteTop = barTop + height + TIME_HEIGHT;
  const lines = notes.length === 0 ? [] : noteLines(notes, charactersIn(scale.width, 12));
  lines.forEach((line, index) => {
    elements.push(textElement(scale.x, noteTop + 12 + NOTE_HEIGHT * index, line, { size: 12, class: "quiet" }));
  });
  return { elements, height: noteTop + NOTE_HEIGHT * lines.length + ROW_GAP - top };
}

function labelOf(row: Row, left: number, top: number, height: number): readonly string[] {
  const middle = top + height / 2;
  if (row.tokensPerSecond === undefined || row.millisecondsPerToken === undefined)
    return [textElement(left, middle + 4, row.title, { size: 13, class: "strong" })];
  const rate = `${row.tokensPerSecond.toPrecision(3)} tok/s`;
  return [
    textElement(left, middle - 10, row.title, { size: 13, class: "strong" }),
    textElement(left, middle + 6, rate, { size: 11, class: "quiet" }),
    textElement(left, middle + 21, `${formatMillis(row.millisecondsPerToken)}/token`, { size: 11, class: "quiet" }),
  ];
}

function boxOf({ layers }: Block, scale: Scale, y: number, height: number): Box {
  const x = xOf(scale, layers.start) + 1;
  return { x, y, width: Math.max(2, xOf(scale, layers.end) - x - 1), height };
}

function drawBlock(block: Block, view: View, box: Box, notes: string[]): readonly string[] {
  const { ranks } = block;
  const height = box.height / ranks.length;
  const names = ranks.map((rank) => (ranks.length === 1 ? rank.node : `${rank.node} ${sharePercent(rank)}%`));
  const shared = block.alsoOn.length === 0 ? "" : ` ⇄${block.alsoOn.join(",")}`;
  const labels = names.map((name, index) => (index === 0 ? name + shared : name));
  const room = box.width - 2 * INSET;
  const fits = labels.every((label) => textWidth(label, 13) <= room);
  const key = fits ? "" : (KEYS[notes.length % KEYS.length] ?? "?");
  if (!fits) notes.push(`${key}: ${names.join(" + ")}${shared} ${layersText(block.layers)}`);
  const title = `${nodesOf(block)}, layers ${layersText(block.layers)}, ${formatMillis(block.milliseconds)} a token`;
  const parts = ranks.flatMap((rank, index) => {
    const part = { ...box, y: box.y + height * index, height };
    const provider = view.providers.indexOf(rank.provider);
    const guest = block.isGuest ? " guest" : "";
    return [
      rectElement(part, fillClass(provider) + guest, title),
      ...(isHatched(provider) ? [rectElement(part, "hatch")] : []),
      ...(index === 0 ? [] : [lineElement(box.x, part.y, box.x + box.width, part.y)]),
      ...labelIn(
        part,
        fits ? (labels[index] ?? "") : index === 0 ? key : "",
        fits && ranks.length === 1 ? block : undefined,
      ),
    ];
  });
  const guess = block.isEstimated && view.estimated === "some" ? " guess" : "";
  return [...parts, rectElement(box, `${block.isBottleneck ? "worst" : "edge"}${guess}`)];
}

/** The name, and below it the layers where there is room. */
function labelIn(box: Box, label: string, block: Block | undefined): readonly string[] {
  const middle = box.y + box.height / 2;
  const layers = block === undefined ? "" : layersText(block.layers) + countText(block);
  const below = layers !== "" && textWidth(layers, 11) <= box.width - 2 * INSET;
  const inset =
    label.length === 1 && box.width < 3 * INSET ? Math.max(0, (box.width - textWidth(label, 13)) / 2) : INSET;
  if (textWidth(label, 13) > box.width) return [];
  return [
    textElement(box.x + inset, middle + (below ? -2 : 5), label, { size: 13 }),
    ...(below ? [textElement(box.x + INSET, middle + 15, layers, { size: 11, class: "quiet" })] : []),
  ];
}

const countText = ({ layers }: Block): string => ` (${lengthOf(layers)})`;

/** The time of each segment under its bar, where it does not touch its neighbour's. */
function timesOf(blocks: readonly Block[], scale: Scale, y: number): readonly string[] {
  let taken = 0;
  return blocks.flatMap(({ layers, milliseconds, isBottleneck }) => {
    const [start, end] = [xOf(scale, layers.start), xOf(scale, layers.end)];
    const time = formatMillis(milliseconds);
    const long = `${time} bottleneck`;
    const text = isBottleneck && textWidth(long, 11) < end - start ? long : isBottleneck ? `${time} ◆` : time;
    const width = textWidth(text, 11);
    const x = (start + end) / 2;
    if (x - width / 2 < taken + 4 || (!isBottleneck && width > end - start)) return [];
    taken = x + width / 2;
    return [textElement(x, y, text, { size: 11, class: isBottleneck ? "alarm" : "quiet", anchor: "middle" })];
  });
}

/** Round trips where segments meet, on two levels so that they do not touch; those without room are in no text. */
function tripsOf(row: Row, view: View, scale: Scale) {
  const ends = new Array<number>(TRIP_LEVELS).fill(0);
  const texts = row.hops.flatMap(({ milliseconds, isEstimated, isBottleneck }, index) => {
    const block = row.blocks[index + 1];
    if (block === undefined || milliseconds === 0) return [];
    const mark = isBottleneck ? " ◆" : "";
    const text = `↔ ${isEstimated && view.estimated === "some" ? "~" : ""}${formatMillis(milliseconds)}${mark}`;
    const x = xOf(scale, block.layers.start);
    const half = textWidth(text, 11) / 2;
    const level = ends.findIndex((end) => end + 6 <= x - half);
    if (level < 0) return [];
    ends[level] = x + half;
    return [{ x, level, text, isBottleneck }];
  });
  return { texts, levelCount: texts.reduce((most, { level }) => Math.max(most, level + 1), 0) };
}

function noteLines(notes: readonly string[], width: number): readonly string[] {
  const pieces = notes.flatMap((note) => cutAt(note, " + ", width - 1)).map((text) => [{ text }]);
  return wrapPieces(pieces, { width, separator: ", ", first: [], rest: "" }).map((line) =>
    line.map(({ text }) => text).join(""),
  );
}
