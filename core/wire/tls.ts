/**
 * mTLS between all parts. A process holds three files (CA, certificate, key); both ends of every connection show a
 * certificate of the same CA, and each checks the identity in the other's: the server per call (peer.ts), the client
 * while connecting, here. Rotated files are picked up without a restart; running connections keep what they have.
 */
import { X509Certificate, createPrivateKey } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type PeerCertificate, type SecureContextOptions, checkServerIdentity } from "node:tls";
import { type ChannelCredentials, ServerCredentials, experimental } from "@grpc/grpc-js";
import { digestOf } from "../digest.ts";
import { type Identity, identityUri, parseIdentity } from "../identity.ts";
import { type Result, ok, refuse } from "../result.ts";
import { ONE_WAY_WINDOW_BYTES, SERVER_NAME } from "./options.ts";

export type TlsFiles = { readonly caFile: string; readonly certificateFile: string; readonly keyFile: string };
export type TlsCode = "UnreadableFile" | "BadCertificate" | "ExpiredCertificate" | "UnknownIdentity";

type Pem = {
  readonly ca: Buffer;
  readonly certificate: Buffer;
  readonly key: Buffer;
  readonly identity: Identity;
  readonly expires: Date;
};

const LOOK_EVERY_MS = 5_000;

/** The three files as Kubernetes names them in a TLS secret. */
export const tlsFilesIn = (directory: string): TlsFiles => ({
  caFile: join(directory, "ca.crt"),
  certificateFile: join(directory, "tls.crt"),
  keyFile: join(directory, "tls.key"),
});

/** What this process shows and trusts, kept up to date from its files. */
export class Tls implements experimental.CertificateProvider {
  readonly files: TlsFiles;
  #pem: Pem;
  #version: string;
  readonly #timer: NodeJS.Timeout;
  readonly #changed = new Set<() => void>();
  readonly #caListeners = new Map<experimental.CaCertificateUpdateListener, () => void>();
  readonly #identityListeners = new Map<experimental.IdentityCertificateUpdateListener, () => void>();
  readonly #onRefused: (detail: string) => void;
  #saidExpired = false;

  constructor(files: TlsFiles, pem: Pem, onRefused: (detail: string) => void) {
    this.files = files;
    this.#pem = pem;
    this.#version = versionOf(files);
    this.#onRefused = onRefused;
    this.#timer = setInterval(() => this.look(), LOOK_EVERY_MS).unref();
  }

  /** Who we are, by our own certificate. */
  get identity(): Identity {
    return this.#pem.identity;
  }

  /** What node:tls wants. */
  get context(): SecureContextOptions {
    return { ca: this.#pem.ca, cert: this.#pem.certificate, key: this.#pem.key, minVersion: "TLSv1.3" };
  }

  /** Reads the files again if they changed. Half-written or wrong ones are reported and the old ones stay in use. */
  look(): void {
    const version = versionOf(this.files);
    if (version === this.#version) return this.#sayExpired();
    this.#version = version;
    const read = readPem(this.files);
    if (!read.ok) return this.#onRefused(read.detail);
    this.#pem = read.value;
    this.#saidExpired = false;
    for (const changed of this.#changed) changed();
  }

  /** Once: what the others see from now on is only a broken handshake. */
  #sayExpired(): void {
    const { expires } = this.#pem;
    if (this.#saidExpired || expires.getTime() > Date.now()) return;
    this.#saidExpired = true;
    this.#onRefused(`${this.files.certificateFile} expired on ${expires.toISOString()}; issue a new one`);
  }

  onChange(changed: () => void): () => void {
    this.#changed.add(changed);
    return () => this.#changed.delete(changed);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#changed.clear();
  }

  addCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    const tell = () => listener({ caCertificate: this.#pem.ca });
    this.#caListeners.set(listener, this.onChange(tell));
    process.nextTick(tell);
  }

  removeCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.#caListeners.get(listener)?.();
    this.#caListeners.delete(listener);
  }

  addIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    const tell = () => listener({ certificate: this.#pem.certificate, privateKey: this.#pem.key });
    this.#identityListeners.set(listener, this.onChange(tell));
    process.nextTick(tell);
  }

  removeIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.#identityListeners.get(listener)?.();
    this.#identityListeners.delete(listener);
  }
}

/**
 * Reads and checks `files` (or ca.crt, tls.crt and tls.key in a directory). Refusals name the file and what is wrong with
 * it: an expired certificate is refused here and not at the first connection. `onRefused` hears of bad rotations later.
 */
export function openTls(
  files: TlsFiles | string,
  onRefused: (detail: string) => void = () => {},
): Result<Tls, TlsCode> {
  const where = typeof files === "string" ? tlsFilesIn(files) : files;
  const read = readPem(where);
  return read.ok ? ok(new Tls(where, read.value, onRefused)) : read;
}

/** For a server: clients without a certificate of our CA do not get past the handshake. */
export function serverCredentials(tls: Tls): ServerCredentials {
  return new RotatingServerCredentials(tls);
}

/** For a client of the one who must be `expected`; anybody else with a valid certificate is refused while connecting. */
export function channelCredentials(tls: Tls, expected: Identity): ChannelCredentials {
  const uri = identityUri(expected);
  return experimental.createCertificateProviderChannelCredentials(tls, tls, {
    checkServerIdentity: (_host: string, certificate: PeerCertificate) => {
      const wrongName = checkServerIdentity(SERVER_NAME, certificate);
      if (wrongName !== undefined) return wrongName;
      const shown = uriOf(certificate.subjectaltname);
      // Attacker: a provider's rank answers at the address of another rank, with its own, valid certificate.
      return shown === uri
        ? undefined
        : new Error(`UnknownIdentity: dialled ${uri}, but ${shown ?? "nobody we know"} answered`);
    },
  });
}

/** What an installation is called wherever somebody offers it something: the digest of its authority's certificate. */
export const installationOf = (caPem: string | Buffer): string => digestOf(new X509Certificate(caPem).raw);

/** The one tessellate URI among the names of a certificate; undefined where there is none, several, or quoting games. */
export function uriOf(alternativeNames: string | undefined): string | undefined {
  // Attacker: Node quotes names that hold commas or quotes; ours never do, so a quote anywhere is reason to refuse.
  if (alternativeNames === undefined || alternativeNames.includes('"')) return undefined;
  const uris = alternativeNames.split(", ").filter((name) => name.startsWith("URI:"));
  return uris.length === 1 ? uris[0]?.slice("URI:".length) : undefined;
}

/** grpc-js reads TLS options when a port is bound and watches for new ones: exactly what rotation needs. */
class RotatingServerCredentials extends ServerCredentials {
  constructor(tls: Tls) {
    super(
      { requestCert: true, rejectUnauthorized: true, settings: { initialWindowSize: ONE_WAY_WINDOW_BYTES } },
      tls.context,
    );
    tls.onChange(() => this.updateSecureContextOptions(tls.context));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

const versionOf = (files: TlsFiles): string =>
  [files.caFile, files.certificateFile, files.keyFile]
    .map((file) => {
      const found = statSync(file, { throwIfNoEntry: false });
      return found === undefined ? "absent" : `${found.ino}:${found.mtimeMs}:${found.size}`;
    })
    .join(" ");

function readPem(files: TlsFiles): Result<Pem, TlsCode> {
  const ca = readFileOr(files.caFile);
  if (!ca.ok) return ca;
  const certificate = readFileOr(files.certificateFile);
  if (!certificate.ok) return certificate;
  const key = readFileOr(files.keyFile);
  if (!key.ok) return key;
  const authority = parseCertificate(ca.value, files.caFile);
  if (!authority.ok) return authority;
  const own = parseCertificate(certificate.value, files.certificateFile);
  if (!own.ok) return own;
  const checked = checkOwn(own.value, key.value, files);
  if (!checked.ok) return checked;
  const expires = own.value.validToDate;
  return ok({ ca: ca.value, certificate: certificate.value, key: key.value, identity: checked.value, expires });
}

function readFileOr(file: string): Result<Buffer, "UnreadableFile"> {
  try {
    return ok(readFileSync(file));
  } catch (error) {
    return refuse("UnreadableFile", `cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function parseCertificate(pem: Buffer, file: string): Result<X509Certificate, "BadCertificate"> {
  try {
    return ok(new X509Certificate(pem));
  } catch {
    return refuse("BadCertificate", `${file} is no certificate in PEM; have the operator issue it again`);
  }
}

function checkOwn(certificate: X509Certificate, key: Buffer, files: TlsFiles): Result<Identity, TlsCode> {
  const file = files.certificateFile;
  if (certificate.validToDate.getTime() <= Date.now())
    return refuse("ExpiredCertificate", `${file} expired on ${certificate.validToDate.toISOString()}; issue a new one`);
  try {
    if (!certificate.checkPrivateKey(createPrivateKey(key)))
      return refuse("BadCertificate", `${files.keyFile} is not the key of ${file}`);
  } catch {
    return refuse("BadCertificate", `${files.keyFile} is no private key in PEM`);
  }
  const uri = uriOf(certificate.subjectAltName);
  if (uri === undefined) return refuse("UnknownIdentity", `${file} does not name exactly one URI identity`);
  const identity = parseIdentity(uri);
  return identity.ok ? identity : refuse("UnknownIdentity", `${file}: ${identity.detail}`);
}
