/** How every connection of ours behaves. */
import type { ChannelOptions } from "@grpc/grpc-js";

/** Bytes of the largest message; a prefill chunk of 512 rows × 8192 columns in f32 is 16 MiB. */
export const MESSAGE_BYTES_MAX = 64 << 20;

/**
 * Bytes in flight where the bulk goes one way (hand-offs): at 20 ms round trip HTTP/2's own 64 KiB would allow 3 MB/s.
 *
 * Never where both sides send bulk at once (the exchange between the ranks of a segment): Node's HTTP/2 does not read
 * while it writes, so two sides whose windows are larger than the sockets' buffers wait for each other for ever. There
 * the 64 KiB stay, and were 4 times faster on loopback as well (1 MiB both ways: 2.3 ms against 9.8 ms).
 */
export const ONE_WAY_WINDOW_BYTES = 8 << 20;

/** The name that every certificate of ours carries, since processes dial each other by address. */
export const SERVER_NAME = "tessellate";

const SHARED: ChannelOptions = {
  "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
  "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.enable_channelz": 0,
};

export const CHANNEL_OPTIONS: ChannelOptions = {
  ...SHARED,
  "grpc.ssl_target_name_override": SERVER_NAME,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 3_000,
  "grpc.enable_http_proxy": 0, // parts of one cluster: a proxy from the environment would see (and break) mTLS
  "grpc.enable_retries": 0, // a retrying call keeps a copy of what it sent; we repeat steps ourselves
  "grpc.service_config_disable_resolution": 1,
};

/** For a connection whose bulk goes one way. */
export const ONE_WAY_CHANNEL_OPTIONS: ChannelOptions = {
  ...CHANNEL_OPTIONS,
  "grpc-node.flow_control_window": ONE_WAY_WINDOW_BYTES,
};

export const SERVER_OPTIONS: ChannelOptions = { ...SHARED, "grpc.max_concurrent_streams": 4_096 };
