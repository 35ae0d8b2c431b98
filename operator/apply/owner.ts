/** Who owns what is made for a model. */
import type { OwnerReference } from "../../core/gen/crds/object-meta.ts";
import type { ModelSpec } from "../plan/types.ts";

/** Everything of a model goes with it: the garbage collector deletes what this owns. */
export const ownerOf = (model: ModelSpec): OwnerReference => ({
  apiVersion: "tessellate.dev/v1alpha1",
  kind: "ShardedModel",
  name: model.name,
  uid: model.uid,
  controller: true,
  blockOwnerDeletion: true,
});
