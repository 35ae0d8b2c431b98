/**
 * The gateway's way into a chain: one long-lived stream of steps to each first leader, shared by all sessions there.
 * What comes back on it are refusals only, each for one session; the loss of the stream is the loss of all of them.
 */
import { type ClientDuplexStream, closeClient } from "@grpc/grpc-js";
import type { Step } from "../../core/gen/proto/tessellate/shard/v1/Step.ts";
import type { StepRefusal__Output } from "../../core/gen/proto/tessellate/shard/v1/StepRefusal.ts";
import { type Refusal, refuse } from "../../core/result.ts";
import { dial } from "../../core/wire/door.ts";
import type { Client } from "../../core/wire/proto.ts";
import { refusalOf } from "../../core/wire/status.ts";
import type { Tls } from "../../core/wire/tls.ts";
import type { RankAddress } from "./types.ts";

export type OnRefusal = (refusal: Refusal) => void;

/** Connections to ranks, one for each name and address; one whose rank has moved is closed when the next is made. */
export class Ranks {
  readonly #tls: Tls;
  readonly #clients = new Map<string, { readonly address: string; readonly client: Client<"ShardRuntime"> }>();
  readonly #streams = new Map<string, StepStream>();
  readonly #cuts = new Set<() => void>();

  constructor(tls: Tls) {
    this.#tls = tls;
  }

  client({ name, address }: RankAddress): Client<"ShardRuntime"> {
    const known = this.#clients.get(name);
    if (known?.address === address) return known.client;
    // A restarted rank has another address; what still runs on the old connection fails there by itself.
    if (known !== undefined) closeClient(known.client);
    const client = dial("ShardRuntime", address, this.#tls, { kind: "rank", name });
    this.#clients.set(name, { address, client });
    return client;
  }

  /** The stream of steps to a first leader; a new one where the last has ended. */
  steps(rank: RankAddress): StepStream {
    const key = `${rank.name} ${rank.address}`;
    const known = this.#streams.get(key);
    if (known?.open === true) return known;
    const made = new StepStream(rank, this.client(rank).Steps());
    this.#streams.set(key, made);
    void made.ended.then(() => {
      if (this.#streams.get(key) === made) this.#streams.delete(key);
    });
    return made;
  }

  /** Runs `cut` when everything is closed, unless the function returned was called before. */
  onClose(cut: () => void): () => void {
    this.#cuts.add(cut);
    return () => this.#cuts.delete(cut);
  }

  close(): void {
    for (const cut of this.#cuts) cut();
    for (const stream of this.#streams.values()) stream.end();
    for (const { client } of this.#clients.values()) closeClient(client);
    this.#streams.clear();
    this.#clients.clear();
  }
}

export class StepStream {
  readonly ended: Promise<void>;
  readonly #call: ClientDuplexStream<Step, StepRefusal__Output>;
  readonly #sessions = new Map<string, OnRefusal>();
  #open = true;
  #drained: Promise<void> | undefined;

  constructor(rank: RankAddress, call: ClientDuplexStream<Step, StepRefusal__Output>) {
    this.#call = call;
    call.on("data", ({ session, code, detail, rank: refuser }: StepRefusal__Output) => {
      this.#sessions.get(session)?.(refuse(code, refuser === "" ? detail : `rank ${refuser}: ${detail}`));
    });
    this.ended = new Promise((resolve) => {
      const lose = (refusal: Refusal) => {
        if (!this.#open) return;
        this.#open = false;
        for (const onRefusal of this.#sessions.values()) onRefusal(refusal);
        this.#sessions.clear();
        resolve();
      };
      call.on("error", (error) => {
        const { detail } = refusalOf(error, `rank ${rank.name}`);
        lose(refuse("RankLost", detail));
      });
      call.on("end", () => lose(refuse("RankLost", `rank ${rank.name} closed its stream of steps`)));
    });
  }

  get open(): boolean {
    return this.#open;
  }

  /** From now until `leave`, refusals of this session go to `onRefusal`. */
  join(session: string, onRefusal: OnRefusal): void {
    this.#sessions.set(session, onRefusal);
  }

  leave(session: string): void {
    this.#sessions.delete(session);
  }

  /** Resolves once the stream takes more: a sender that does not wait would fill this process with a slow rank's steps. */
  async send(step: Step): Promise<void> {
    await this.#drained;
    if (!this.#open || this.#call.write(step)) return;
    this.#drained ??= new Promise((resolve) => {
      const over = () => {
        this.#drained = undefined;
        resolve();
      };
      this.#call.once("drain", over);
      void this.ended.then(over);
    });
  }

  end(): void {
    this.#call.end();
    this.#call.cancel();
  }
}
