/** How the operator's work grows with the models, as a picture of a few lines. Pure. */

export type OperatorGrowth = {
  readonly modelCount: number;
  readonly ready: number; // pods a second, until all models are Ready
  readonly bareReady: number; // the same of the bare loop
  readonly cpuSeconds: number; // of the operator until then
  readonly rssMib: number; // at rest, afterwards
};

const [PANEL, HEIGHT, MARGIN] = [340, 260, 48];
const [BLUE, GREY] = ["#2563eb", "#64748b"];

type Scale = (value: number) => number;
type Line = { readonly colour: string; readonly name: string; readonly values: readonly number[] };
type Panel = {
  readonly left: number;
  readonly counts: readonly number[];
  readonly lines: readonly Line[];
  readonly marks: readonly number[];
  readonly y: Scale;
};

/** Two panels over the number of models, by powers of ten: rates beside the bare loop's, and what a model costs. */
export function operatorGrowthPicture(growth: readonly OperatorGrowth[]): string {
  const counts = growth.map(({ modelCount }) => modelCount);
  const rates = [
    { colour: BLUE, name: "pods/s until all are Ready: operator", values: growth.map(({ ready }) => ready) },
    { colour: GREY, name: "the same: bare loop", values: growth.map(({ bareReady }) => bareReady) },
  ];
  const costs = [
    {
      colour: BLUE,
      name: "CPU for each model, ms",
      values: growth.map(({ cpuSeconds, modelCount }) => (1000 * cpuSeconds) / modelCount),
    },
    { colour: GREY, name: "memory at rest, MiB", values: growth.map(({ rssMib }) => rssMib) },
  ];
  const highest = Math.max(1, ...rates.flatMap(({ values }) => values));
  const step = 10 ** Math.floor(Math.log10(highest));
  const marks = Array.from({ length: Math.ceil(highest / step) + 1 }, (_, index) => index * step);
  const top = marks.at(-1) ?? highest;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * PANEL} ${HEIGHT}" font-family="sans-serif" font-size="11">`,
    `<rect width="${2 * PANEL}" height="${HEIGHT}" fill="white"/>`,
    ...panel({ left: 0, counts, lines: rates, marks, y: (value) => value / top }),
    ...panel({ left: PANEL, counts, lines: costs, marks: [1, 10, 100, 1_000, 10_000], y: byPowers(0, 4) }),
    "</svg>\n",
  ].join("\n");
}

/** The share of the way from 10^`from` to 10^`to`. */
const byPowers =
  (from: number, to: number): Scale =>
  (value) =>
    (Math.min(to, Math.max(from, Math.log10(value))) - from) / (to - from);

function panel({ left, counts, lines, marks, y: share }: Panel): readonly string[] {
  const across = byPowers(1, 3);
  const x = (count: number): number => left + MARGIN + across(count) * (PANEL - 2 * MARGIN);
  const y = (value: number): number => HEIGHT - MARGIN - share(value) * (HEIGHT - 2 * MARGIN);
  const text = (at: number, words: string, place: number, anchor: string, colour = "black"): string =>
    `<text x="${place.toFixed(1)}" y="${at.toFixed(1)}" text-anchor="${anchor}" fill="${colour}">${words}</text>`;
  return [
    ...marks.flatMap((mark) => [
      `<path d="M${left + MARGIN} ${y(mark).toFixed(1)}H${left + PANEL - MARGIN}" stroke="#ddd"/>`,
      text(y(mark) + 4, String(mark), left + MARGIN - 6, "end"),
    ]),
    ...[10, 100, 1_000].map((count) => text(HEIGHT - MARGIN + 16, String(count), x(count), "middle")),
    text(HEIGHT - 10, "models of 8 ranks", left + PANEL / 2, "middle"),
    ...lines.flatMap(({ colour, name, values }, index) => {
      const points = values.map((value, at) => [x(counts[at] ?? 0).toFixed(1), y(value).toFixed(1)] as const);
      return [
        `<polyline points="${points.map((point) => point.join()).join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        ...points.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3.5" fill="${colour}"/>`),
        text(14 * (index + 1), name, left + MARGIN + 8, "start", colour),
      ];
    }),
  ];
}
