/** How the planner's time grows with the nodes, as a picture of a few lines. Pure. */

export type Growth = {
  readonly siteCount: number;
  readonly seconds: number;
  readonly megabytes: number; // of the whole process, at the end
  readonly share: number; // of the proved bound
};

const [WIDTH, HEIGHT, MARGIN] = [520, 260, 48];

/** Both axes by powers of ten; a point for each measurement. `search`: the most flow; `plan`: all that `plan` does. */
export function growthPicture(search: readonly Growth[], plan: readonly Growth[]): string {
  const x = (count: number): number => MARGIN + ((Math.log10(count) - 1) / 3) * (WIDTH - 2 * MARGIN);
  const y = (seconds: number): number => {
    const share = (Math.log10(Math.min(100, Math.max(seconds, 0.01))) + 2) / 4;
    return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN);
  };
  const line = (growth: readonly Growth[], colour: string): readonly string[] => {
    const points = growth.map(({ siteCount, seconds }) => `${x(siteCount).toFixed(1)},${y(seconds).toFixed(1)}`);
    return [
      `<polyline points="${points.join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...points.map((point) => {
        const [cx, cy] = point.split(",");
        return `<circle cx="${cx}" cy="${cy}" r="3.5" fill="${colour}"/>`;
      }),
    ];
  };
  const label = (at: number, text: string, across: number, anchor: string): string =>
    `<text x="${across.toFixed(1)}" y="${at.toFixed(1)}" text-anchor="${anchor}">${text}</text>`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    ...[0.01, 0.1, 1, 10, 100].flatMap((seconds) => [
      `<path d="M${MARGIN} ${y(seconds).toFixed(1)}H${WIDTH - MARGIN}" stroke="#ddd"/>`,
      label(y(seconds) + 4, `${seconds} s`, MARGIN - 6, "end"),
    ]),
    ...[10, 100, 1000, 10_000].map((count) => label(HEIGHT - MARGIN + 16, String(count), x(count), "middle")),
    label(HEIGHT - 10, "nodes, 126 layers", WIDTH / 2, "middle"),
    ...line(search, "#94a3b8"),
    ...line(plan, "#2563eb"),
    `<text x="${MARGIN + 8}" y="${MARGIN - 24}" fill="#2563eb">plan: no two nodes alike</text>`,
    `<text x="${MARGIN + 8}" y="${MARGIN - 10}" fill="#64748b">most flow: nodes of a few kinds</text>`,
    "</svg>\n",
  ].join("\n");
}
