declare const unit: unique symbol;
type Unit<Base, Name extends string> = Base & { readonly [unit]: Name };

/** Money, always an integer: 1 credit = 1,000,000 micro-credits. */
export type MicroCredits = Unit<bigint, "MicroCredits">;
export const microCredits = (n: bigint) => n as MicroCredits;

/** Verified work: layers × positions × the slice's share in millionths. An integer, so that sums never round. */
export type WorkUnits = Unit<bigint, "WorkUnits">;
export const workUnits = (n: bigint) => n as WorkUnits;

/** `4.2 GiB`, `318 MiB`, `12.0 KiB`, `7 B`: binary multiples, as Kubernetes quantities count memory. */
export function formatBytes(byteCount: number): string {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = byteCount;
  let index = 0;
  while (Math.abs(size) >= 1024 && index < names.length - 1) {
    size /= 1024;
    index += 1;
  }
  return index === 0 ? `${size} B` : `${size.toFixed(size < 10 ? 2 : 1)} ${names[index]}`;
}

/** `1.275000` credits from micro-credits, exactly. */
export function formatCredits(amount: bigint): string {
  const sign = amount < 0n ? "-" : "";
  const size = amount < 0n ? -amount : amount;
  return `${sign}${size / 1_000_000n}.${(size % 1_000_000n).toString().padStart(6, "0")}`;
}
