/** The hooks of a suite that asks of one operator what it makes of a model world. */
import { type ModelWorld, startModelWorld } from "./model-world.ts";
import { type Operator, startOperator } from "./running-operator.ts";

export type OperatedWorld = {
  readonly world: ModelWorld;
  readonly operator: Operator;
  /** Another operator instead of the one that has stopped. */
  startNext(identity: string): Promise<void>;
};

/** To be called in a suite's body; what it answers may be looked at from the first test on. */
export function operatedWorld(identity: string): OperatedWorld {
  let world: ModelWorld | undefined;
  let operator: Operator | undefined;
  const started = <T>(part: T | undefined): T => {
    if (part === undefined) throw new Error("nothing is started before the suite's hooks: look in a test");
    return part;
  };
  before(async () => {
    world = await startModelWorld();
    operator = await startOperator(world.cluster, identity);
  });
  after(async () => {
    await operator?.stop();
    await world?.stop();
  });
  return {
    get world() {
      return started(world);
    },
    get operator() {
      return started(operator);
    },
    async startNext(next) {
      operator = await startOperator(started(world).cluster, next);
    },
  };
}
