/** Crashes after every single write of a model's life: does it come to the same end, with no orphan and no double? */
import { crashOnce, liveThrough } from "../cluster/crashes.ts";
import { startModelWorld } from "../cluster/model-world.ts";
import { type BenchResult, atMost } from "./figures.ts";

const AT_A_TIME = 3;

export async function crashed(): Promise<Pick<BenchResult, "requirements" | "table" | "notes">> {
  const world = await startModelWorld();
  try {
    const calm = await liveThrough(world, "calm", () => undefined);
    const points = Array.from({ length: calm.writeCount }, (_, index) => 1 + index);
    console.error(`a life of ${points.length} writes, lived once for each`);
    const wrong = await crashOnce(world, calm, points, AT_A_TIME);
    for (const each of wrong) console.error(`WRONG: ${each}`);
    return {
      requirements: [atMost(`crashes that led to another end, of ${points.length}`, wrong.length, 0, "")],
      table: [["writes from creation to deletion, each crashed after", String(points.length)]],
      notes: ["A life: create, scale up, repair, change the plan, scale down, delete."],
    };
  } finally {
    await world.stop();
  }
}
