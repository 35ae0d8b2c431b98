/** What a file of core/families holds: how a family's config.json is read, and where its tensors lie. */
import type { Fields } from "./config-fields.ts";
import type { ModelConfig } from "./model-config.ts";

/** Where the numbers of one role lie in a checkpoint of the Hugging Face layout; see core/tensor-places.ts for roles. */
export type TensorPlace = {
  readonly role: string;
  readonly shape: readonly number[]; // [outputs, inputs] or [length], as the engine sees it
  readonly stored: string; // the checkpoint's name
  readonly storedShape: readonly number[];
  /** Index on the first of the stored axes; what is below holds of the axes after it: [experts, inputs, outputs] or [experts, outputs]. */
  readonly plane?: number;
  readonly transposed?: boolean; // the stored matrix (or plane) is [inputs, outputs]
  /** Row r of the role (output r, wherever outputs lie) is the stored one's row start + r × step. */
  readonly rows?: { readonly start: number; readonly step: number };
  readonly add?: number; // to every value
};

export type Family = {
  readonly modelType: string; // model_type in config.json
  readonly architecture: string; // what `architectures` must hold, where it is given
  /** Options that change a decoder's arithmetic, with the values under which they change nothing here. null is as absent. */
  readonly neutral: Readonly<Record<string, readonly unknown[]>>;
  read(fields: Fields): ModelConfig;
  /** Every tensor, in the order in which a model uses them. */
  tensors(config: ModelConfig): readonly TensorPlace[];
};
