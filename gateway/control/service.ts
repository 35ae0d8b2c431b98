/** The operator's door to this gateway: Put, Probe and Demand, over gRPC with mTLS. Nobody but an operator gets in. */
import type { Server } from "@grpc/grpc-js";
import { ok } from "../../core/result.ts";
import { answer, stream } from "../../core/wire/peer.ts";
import { loadService } from "../../core/wire/proto.ts";
import { readyChains } from "../route/picture.ts";
import type { DrainingChain } from "../generate/admission.ts";
import type { DemandFeed } from "./demand.ts";
import type { PictureKeeper } from "./keeper.ts";
import { type Prober, probe } from "./probe.ts";

export type ControlDoors = {
  readonly keeper: PictureKeeper;
  readonly prober: Prober;
  readonly draining: () => readonly DrainingChain[];
  readonly demand: DemandFeed;
};

/** Adds the Control service to a server. */
export function addControl(server: Server, { keeper, prober, draining, demand }: ControlDoors): void {
  const { name, key } = prober.signer;
  server.addService(loadService("Control").service, {
    Put: answer(
      (caller) => caller.kind === "operator",
      (state) => {
        const picture = keeper.put(state);
        if (!picture.ok) return picture;
        const ready = picture.value.models.filter(
          (model) => readyChains(model).length > 0 && prober.catalog.peek(model.root)?.ok === true,
        );
        return ok({ name, publicKey: key.publicKey.spki, readyModelCount: ready.length, draining: [...draining()] });
      },
    ),
    Probe: answer(
      (caller) => caller.kind === "operator",
      async (request) => ok(await probe(prober, keeper.picture, request)),
    ),
    Demand: stream(
      (caller) => caller.kind === "operator",
      (call) => demand.add(call),
    ),
  });
}
