/** What a machine takes for a layer, what its memory gives, how far other ranks are: the entry for `tessellate node measure`. */
export { measureLayer } from "./measure/measured-layers.ts";
export { measureDeviceBandwidth } from "./measure/device-bandwidth.ts";
export { measureBandwidth } from "./measure/memory-bandwidth.ts";
export { measureRoundTrip } from "./measure/round-trip.ts";
