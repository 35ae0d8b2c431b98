/**
 * A plan in words: one text for the terminal, the ShardPlan's status, events and the Planned condition, so that they
 * never say different things.
 */
import { isLongAgo } from "../cost/speed.ts";
import { keysOf, routesOf } from "../routes.ts";
import type { Placement } from "../types.ts";
import { drawPlan } from "./drawing.ts";
import { estimatePieces, extentText, headlineLines, headlineText, leftOutLines, reasonsOf } from "./headline.ts";
import { shortened, shortenedLines } from "./text.ts";
import { type Charset, type Line, UNICODE, renderLines, wrapText } from "./lines.ts";
import type { Known } from "./times.ts";
import { viewOf } from "./view.ts";

/** What the API server takes as a condition's message; the ShardPlan's text keeps to the same. */
export const TEXT_LENGTH_MAX = 32_768;
/** A condition is read in one line of `kubectl describe`. */
const SENTENCE_LENGTH_MAX = 1000;
/** The API server takes notes of 1 KiB, and the ShardPlan's name comes after. */
const EVENT_LENGTH_MAX = 600;
/** kubectl's columns: what a terminal shows without breaking lines. */
const STATUS_WIDTH = 100;

export type PlanWords = {
  readonly headline: string;
  readonly condition: string; // of Planned: at most 1,000 characters, one line
  readonly event: string; // the same, for an event
  readonly text: string; // the picture without colours, 100 columns, at most TEXT_LENGTH_MAX bytes in UTF-8
};

export function planWords(world: Known, placement: Placement): PlanWords {
  const whole = renderLines(pictureLines(world, placement, { width: STATUS_WIDTH, charset: UNICODE }), false);
  return {
    headline: headlineText(world, placement),
    condition: plannedSentence(placement),
    event: plannedPromise(placement),
    text: shortenedLines(whole, TEXT_LENGTH_MAX),
  };
}

/** What a plan takes and promises, and who is left out of it and why, in at most 1,000 characters: of Planned. */
export function plannedSentence(placement: Placement): string {
  const out = reasonsOf(placement.leftOut).map(({ nodes, why }) => `${nodes.join(", ")}: ${why}`);
  const promise = `${plannedPromise(placement)}${sharersText(placement)}`;
  return shortened(out.length === 0 ? promise : `${promise}; left out ${out.join("; ")}`, SENTENCE_LENGTH_MAX);
}

/** More chains than the nodes can carry run through ranks that others run through already. */
function sharersText(placement: Placement): string {
  const routes = routesOf(placement);
  const apartCount = new Set(routes.map((route) => keysOf(route).join())).size;
  const count = routes.length - apartCount;
  if (count === 0) return "";
  const adds =
    count === 1
      ? "1 chain only shares ranks with others and adds"
      : `${count} chains only share ranks with others and add`;
  return `; ${adds} no capacity: the nodes carry ${apartCount} of ${routes.length}`;
}

/** What a plan takes and promises, short enough for an event's note. */
export const plannedPromise = (placement: Placement): string =>
  shortened([extentText(placement), ...estimatePieces(placement)].join("; "), EVENT_LENGTH_MAX);

export type PictureStyle = { readonly width: number; readonly charset: Charset };

/** Headline, picture, what the slow parts are, and every node left out: what `tessellate plan` prints. */
export function pictureLines(world: Known, placement: Placement, style: PictureStyle): readonly Line[] {
  const view = viewOf(world, placement);
  const out = leftOutLines(placement.leftOut, style.width);
  const old = oldLines(world, placement, style.width);
  return [
    ...headlineLines(world, placement, style.width),
    [],
    ...drawPlan(view, style),
    ...(out.length === 0 ? [] : [[], ...out]),
    ...(old.length === 0 ? [] : [[], ...old]),
  ];
}

/** `measured  garage-3 40 days ago: counts as estimated`: nodes of the plan whose figures are old. */
function oldLines({ nodes }: Known, { assignments }: Placement, width: number): readonly Line[] {
  const held = new Set(assignments.map(({ node }) => node));
  const old = nodes
    .filter((node) => held.has(node.name) && isLongAgo(node))
    .map(({ name, measuredDaysAgo = 0 }) => `${name} ${measuredDaysAgo} days ago`)
    .sort();
  if (old.length === 0) return [];
  return wrapText(`${old.join(", ")}: counts as estimated, measure again`, width, [{ text: MEASURED }], REST);
}

const MEASURED = "measured  ";
const REST = " ".repeat(MEASURED.length);
