/**
 * `Control.Put`'s message, of which each model is encoded once for as long as it is the same object: of a thousand models
 * a few have changed, and to encode all of them takes a tenth of a second. That messages of one type, written one after
 * the other, are read as one merged (lists appended, the last of what is single) is what protobuf's encoding promises.
 */
import type { CallOptions, ClientUnaryCall, requestCallback } from "@grpc/grpc-js";
import type { Model } from "../../core/gen/proto/tessellate/control/v1/Model.ts";
import type { PutReply__Output } from "../../core/gen/proto/tessellate/control/v1/PutReply.ts";
import type { State } from "../../core/gen/proto/tessellate/control/v1/State.ts";
import { type Client, loadService } from "../../core/wire/proto.ts";
import type { Turn } from "../turns.ts";

export type EncodedModel = { readonly bytes: Buffer; readonly drains: boolean };

const { Put } = loadService("Control").service;

export const encodeState = (state: State): Buffer => Put.requestSerialize(state);

export class EncodedModels {
  readonly #known = new WeakMap<Model, EncodedModel>();

  /** Each as a state of its own that holds nothing else. */
  async of(models: readonly Model[], turn: Turn): Promise<readonly EncodedModel[]> {
    const found: EncodedModel[] = [];
    for (const model of models) {
      const known = this.#known.get(model) ?? encoded(model);
      this.#known.set(model, known);
      found.push(known);
      const rest = turn();
      if (rest !== undefined) await rest;
    }
    return found;
  }
}

const encoded = (model: Model): EncodedModel => ({
  bytes: encodeState({ models: [model] }),
  drains: model.chains?.some(({ draining }) => draining === true) ?? false,
});

/** {@link Client} `Put` with a state that is encoded already. */
export const putState = (
  client: Client<"Control">,
  state: Buffer,
  options: CallOptions,
  callback: requestCallback<PutReply__Output>,
): ClientUnaryCall =>
  client.makeUnaryRequest(Put.path, (bytes: Buffer) => bytes, Put.responseDeserialize, state, options, callback);
