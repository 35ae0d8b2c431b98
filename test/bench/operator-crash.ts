/** Crashes after every single write of a model's life: does it come to the same end, with no orphan and no double? */
import { FLOWS } from "../cluster/crash-flows.ts";
import { crashOnce, liveThrough } from "../cluster/crashes.ts";
import { startModelWorld } from "../cluster/model-world.ts";
import { type BenchResult, atMost } from "./figures.ts";

const SAY_EVERY = 10;

/** `names`: of flows, with commas between. `every`: only each so manieth write. */
export async function crashed(
  names?: string,
  every = 1,
): Promise<Pick<BenchResult, "requirements" | "table" | "notes">> {
  const flows = FLOWS.filter((flow) => names === undefined || names.split(",").includes(flow.name));
  const world = await startModelWorld();
  const requirements = [];
  const table: string[][] = [];
  try {
    for (const flow of flows) {
      const calm = await liveThrough(world, `${flow.name}-calm`, () => undefined, { flow });
      const all = Array.from({ length: calm.writeCount }, (_, index) => 1 + index);
      const points = all.filter((point) => point % every === 0);
      console.error(`${flow.name}: a life of ${all.length} writes, lived once for each of ${points.length}`);
      const wrong = await crashOnce(world, calm, points, flow, (count) => {
        if (count % SAY_EVERY === 0) console.error(`${flow.name}: ${count} of ${points.length} lives`);
      });
      for (const each of wrong) console.error(`WRONG: ${each}`);
      requirements.push(
        atMost(`${flow.name}: crashes that led to another end, of ${points.length}`, wrong.length, 0, ""),
      );
      table.push([`${flow.name}: ${flow.steps.map((step) => step.name).join(", ")}`, `${all.length} writes`]);
    }
    return {
      requirements,
      table,
      notes: ["The operator dies right after a write has taken effect, once in each life."],
    };
  } finally {
    await world.stop();
  }
}
