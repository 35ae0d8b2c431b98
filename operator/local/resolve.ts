/** What local mode is about: apart from the house itself, so that `plan` starts without loading what `up` needs. */
import { parseModelConfig } from "../../core/model-config.ts";
import { RefusalError, valueOrThrow } from "../../core/result.ts";
import { type ReadFacts, readFacts } from "../manifest/read-facts.ts";
import { modelSpecOf } from "../plan/model-spec.ts";
import type { ModelSpec } from "../plan/types.ts";
import type { Documents } from "./documents.ts";

/** In place of a root, where a plan was made from a config.json alone. */
const NOT_PACKED = "not packed yet";

/**
 * What `-f` and `--nodes` must hold together, or the refusal that says what is missing. With `configText`, the model's
 * config.json, no manifest is read: enough to plan with, before anybody has fetched or packed the model.
 */
export async function resolveLocal(
  documents: Documents,
  configText?: string,
): Promise<{ readonly model: ModelSpec; readonly facts: ReadFacts }> {
  const [model, ...more] = documents.models;
  if (model === undefined)
    throw new RefusalError({ ok: false, code: "NoModel", detail: "no file holds a ShardedModel: name one with -f" });
  if (more.length > 0) {
    const names = documents.models.map(({ metadata }) => metadata.name).join(", ");
    throw new RefusalError({
      ok: false,
      code: "SeveralModels",
      detail: `local mode serves one model, and the files hold ${names}`,
    });
  }
  if (documents.nodes.length === 0) {
    throw new RefusalError({ ok: false, code: "NoNodes", detail: "no file holds a ShardNode: name one with --nodes" });
  }
  const draft = modelSpecOf(model);
  const facts = configText === undefined ? valueOrThrow(await readFacts(draft)) : factsOf(configText);
  return { model: modelSpecOf(model, facts.config), facts };
}

function factsOf(configText: string): ReadFacts {
  return { root: NOT_PACKED, config: valueOrThrow(parseModelConfig(configText)), configText };
}
