/**
 * The picture of a plan as an SVG for a slide or a page: the same view as the terminal's, on one scale of layers. It
 * stands alone (no script, no font, nothing fetched) and follows the reader's light or dark theme.
 */
import type { Placement } from "../types.ts";
import { headlinePieces, reasonsOf } from "./headline.ts";
import { type Line, wrapPieces, wrapText } from "./lines.ts";
import {
  charactersIn,
  escaped,
  fillClass,
  isHatched,
  lineElement,
  rectElement,
  styleElement,
  textElement,
  textWidth,
} from "./svg-elements.ts";
import { type Scale, drawRow, xOf } from "./svg-row.ts";
import type { Known } from "./times.ts";
import { type View, viewOf } from "./view.ts";

const WIDTH = 1200;
const MARGIN = 32;
const LABEL_WIDTH = 128;
const LINE_HEIGHT = 18;

/** A whole SVG document; its height follows from what there is to say. */
export function planSvg(world: Known, placement: Placement): string {
  const view = viewOf(world, placement);
  const scale: Scale = {
    x: MARGIN + LABEL_WIDTH,
    width: WIDTH - 2 * MARGIN - LABEL_WIDTH,
    layerCount: view.layerCount,
  };
  const [name = "", ...promises] = headlinePieces(world, placement);
  const head = titleLines(name, promises);
  const elements = [...head.elements];
  let y = head.bottom + 10;
  for (const row of view.rows) {
    const drawn = drawRow(row, view, scale, y, MARGIN);
    elements.push(...drawn.elements);
    y += drawn.height;
  }
  elements.push(...axis(scale, y));
  y += 40;
  const key = legend(view, y);
  const out = leftOut(placement, key.bottom + 8);
  elements.push(...key.elements, ...out.elements);
  const height = Math.ceil(out.bottom + MARGIN - LINE_HEIGHT + 6);
  const title = escaped([name, ...promises].join(" · "));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">`,
    `<title>${title}</title>${styleElement()}`,
    rectElement({ x: 0, y: 0, width: WIDTH, height }, "ground"),
    ...elements,
    "</svg>",
  ].join("\n");
}

type Drawn = { readonly elements: readonly string[]; readonly bottom: number };

function titleLines(name: string, promises: readonly string[]): Drawn {
  const top = MARGIN + 14;
  const pieces = promises.map((text): Line => [{ text }]);
  const width = charactersIn(WIDTH - 2 * MARGIN, 15);
  const lines = wrapPieces(pieces, { width, separator: " · ", first: [], rest: "" });
  return {
    elements: [
      textElement(MARGIN, top, name, { size: 20, class: "strong" }),
      ...lines.map((line, index) =>
        textElement(MARGIN, top + 26 + 21 * index, line.map(({ text }) => text).join(""), { size: 15 }),
      ),
    ],
    bottom: top + 26 + 21 * (lines.length - 1),
  };
}

/** Layer numbers at round steps, and the last. */
function axis(scale: Scale, y: number): readonly string[] {
  const step =
    [1, 2, 4, 5, 8, 10, 20, 25, 50, 100].find((each) => (scale.width * each) / scale.layerCount >= 48) ?? 200;
  const ticks: number[] = [];
  for (let layer = 0; layer < scale.layerCount; layer += step) ticks.push(layer);
  const last = ticks.at(-1) ?? 0;
  if (xOf(scale, scale.layerCount) - xOf(scale, last) < 32) ticks.pop();
  ticks.push(scale.layerCount);
  return [
    textElement(MARGIN, y + 20, "layers", { size: 12, class: "quiet" }),
    lineElement(scale.x, y, scale.x + scale.width, y),
    ...ticks.flatMap((layer) => {
      const x = xOf(scale, layer);
      return [
        lineElement(x, y, x, y + 6),
        textElement(x, y + 20, String(layer), { size: 12, class: "quiet", anchor: "middle" }),
      ];
    }),
  ];
}

/** A swatch for each provider, then what the marks mean. */
function legend(view: View, top: number): Drawn {
  const elements: string[] = [];
  let [x, y] = [MARGIN, top];
  const put = (text: string, swatch: readonly string[]) => {
    const width = 26 + textWidth(text, 13) + 24;
    if (x > MARGIN && x + width > WIDTH - MARGIN) [x, y] = [MARGIN, y + 24];
    const box = { x, y, width: 18, height: 14 };
    elements.push(...swatch.map((named) => rectElement(box, named)), textElement(x + 26, y + 12, text, { size: 13 }));
    x += width;
  };
  view.providers.forEach((name, provider) => {
    put(name, [fillClass(provider), ...(isHatched(provider) ? ["hatch"] : []), "edge"]);
  });
  const blocks = view.rows.flatMap((row) => row.blocks);
  if (blocks.some(({ isBottleneck }) => isBottleneck)) put("bottleneck", ["worst"]);
  if (view.estimated === "some") put("~ estimated, not measured", ["edge guess"]);
  if (blocks.some(({ isGuest }) => isGuest)) put("passes through (⇄ shared with)", [`${fillClass(0)} guest`, "edge"]);
  const about = view.estimated === "all" ? " · all estimated, none measured" : "";
  const words = `below each segment: its time for one token alone · ↔ round trip to the next${about}`;
  elements.push(textElement(MARGIN, y + 38, words, { size: 12, class: "quiet" }));
  return { elements, bottom: y + 38 + LINE_HEIGHT };
}

function leftOut({ leftOut: out }: Placement, top: number): Drawn {
  const width = charactersIn(WIDTH - 2 * MARGIN - LABEL_WIDTH, 12);
  const lines = reasonsOf(out).flatMap(({ nodes, why }) => wrapText(`${nodes.join(", ")}: ${why}`, width));
  const elements = lines.map((line, index) =>
    textElement(MARGIN + LABEL_WIDTH, top + 12 + LINE_HEIGHT * index, line.map(({ text }) => text).join(""), {
      size: 12,
      class: "quiet",
    }),
  );
  if (lines.length > 0) elements.unshift(textElement(MARGIN, top + 12, "left out", { size: 13, class: "strong" }));
  return { elements, bottom: top + LINE_HEIGHT * lines.length };
}
