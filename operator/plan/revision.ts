/** Revisions: what ranks were told of their model and run, in a few letters, so that another is known for another. */
import { digestOf } from "../../core/digest.ts";
import { plannedModel } from "./model-spec.ts";
import type { Form, ModelFacts, ModelSpec, Placement, Side, StandingPlan } from "./types.ts";

/** What a rank must have been told for it to serve this spec. Ranks of another revision are replaced. */
export const revisionOf = (model: ModelSpec, facts: ModelFacts): string => model.revision ?? formKey(model, facts);

/** Changes with what ranks are told of the model, be they of whatever image. */
export const formKey = (model: Omit<Form, "image"> & { readonly imageTag?: string }, { root }: ModelFacts): string =>
  [
    root.replace("sha256:", "").slice(0, 12),
    model.quantization,
    model.contextLength,
    model.slotCount,
    model.handOffDtype,
    ...(model.kvDtype === "f32" ? [] : [`kv-${model.kvDtype}`]),
    ...(model.imageTag === undefined ? [] : [`image-${model.imageTag}`]),
  ].join("-");

/** A placement as the next planning goes on from it. */
export const standingPlanOf = (revision: string, placement: Placement, model: ModelSpec): StandingPlan => ({
  revision,
  assignments: placement.assignments,
  slotCount: plannedModel(model, placement).slotCount,
  ...(placement.routes === undefined ? {} : { routes: placement.routes }),
  ...(placement.basis === undefined ? {} : { basis: placement.basis }),
  ...(placement.better === undefined ? {} : { better: placement.better }),
});

/** The part of a spec that ranks are told. */
export function formOf(model: ModelSpec, image: string | undefined): Form {
  const { source, quantization, kvDtype, contextLength, slotCount, handOffDtype } = model;
  const { manifestUrl, mirrors, hubTokenSecret } = model;
  return {
    source,
    quantization,
    kvDtype,
    contextLength,
    slotCount,
    handOffDtype,
    ...(manifestUrl === undefined ? {} : { manifestUrl }),
    ...(mirrors === undefined ? {} : { mirrors }),
    ...(hubTokenSecret === undefined ? {} : { hubTokenSecret }),
    ...(image === undefined ? {} : { image }),
  };
}

/** What is asked for, whatever the planner makes of it: a revision that failed is remembered by this. */
export const wishOf = (model: ModelSpec, facts: ModelFacts, image: string | undefined): string =>
  lettersOf(
    JSON.stringify([
      formKey({ ...model, slotCount: model.slotsByPlanner === true ? 0 : model.slotCount }, facts),
      image,
    ]),
  );

/** Whether chains are of the revision that is asked for. Slots that nobody asked for are as they are. */
export function isOfWish(
  { form, facts, plan }: Side,
  model: ModelSpec,
  asked: ModelFacts,
  image: string | undefined,
): boolean {
  const slotCount = plan.slotCount ?? form.slotCount;
  const wanted = { ...model, slotCount: model.slotsByPlanner === true ? slotCount : model.slotCount };
  const held = formKey({ ...form, slotCount }, facts);
  return held === formKey(wanted, asked) && (form.image === undefined || image === undefined || form.image === image);
}

/** The model as the chains of a revision have it, with what is asked for apart from that. */
export function modelOf(asked: ModelSpec, { form, plan }: Pick<Side, "form" | "plan">): ModelSpec {
  const { slotsByPlanner: _, manifestUrl: __, mirrors: ___, hubTokenSecret: ____, ...model } = asked;
  const { image: _____, ...told } = form;
  return { ...model, ...told, slotCount: plan.slotCount ?? form.slotCount, revision: plan.revision };
}

/** Letters for an image, where others of its form run another. */
export const imageTagOf = (image: string | undefined, others: readonly Side[]): string | undefined =>
  image !== undefined && others.some(({ form }) => form.image !== undefined && form.image !== image)
    ? lettersOf(image)
    : undefined;

const lettersOf = (text: string): string => digestOf(new TextEncoder().encode(text)).slice("sha256:".length, 15);
