// Where the service is and who we are. Files are read once, when the client is made.

import { readFileSync } from "node:fs";
import { Agent } from "node:https";
import { createSecureContext } from "node:tls";
import { ConfigurationError } from "./errors.js";

/** How to reach the service. */
export interface Options {
  /** `https://HOST[:PORT]`; the default port is 8443. */
  url: string;
  /** PEM file of the authorities that may vouch for the service. No others are trusted. */
  caFile: string;
  /** PEM file of our certificate chain. Without it and its key only health checks are open. */
  certificateFile?: string;
  /** PEM file of its private key, unencrypted. */
  keyFile?: string;
  /** Time for a whole call with its attempts. Default 30,000: above the service's own deadline for slow devices. */
  callTimeoutMs?: number;
  /** Time for TCP and TLS together. Default 5,000. */
  connectTimeoutMs?: number;
  /** Attempts of one call, the first included. Default 5. */
  attemptsMax?: number;
}

/** The port of a URL that names none. */
export const DEFAULT_PORT = 8443;
/** Connections, busy ones included: further calls wait for one. Services bound them by address. */
const SOCKETS_MAX = 64;

/** What connections are made with: TLS 1.3, our certificate, the given authorities only. Throws {@link ConfigurationError}. */
export function agentOf(options: Options): Agent {
  if ((options.certificateFile === undefined) !== (options.keyFile === undefined)) {
    throw new ConfigurationError("certificateFile and keyFile go together");
  }
  const files = { ca: readPem(options.caFile), cert: readPem(options.certificateFile), key: readPem(options.keyFile) };
  if (!files.ca?.includes("-----BEGIN CERTIFICATE-----")) {
    throw new ConfigurationError(`${options.caFile}: holds no certificate`);
  }
  const tls = Object.fromEntries(Object.entries(files).filter(([, pem]) => pem !== undefined));
  try {
    createSecureContext(tls);
  } catch (error) {
    throw new ConfigurationError(`certificate and key cannot be used: ${(error as Error).message}`);
  }
  return new Agent({
    ...tls,
    keepAlive: true,
    maxSockets: SOCKETS_MAX,
    maxFreeSockets: SOCKETS_MAX,
    // Each connection shows its certificate.
    maxCachedSessions: 0,
    minVersion: "TLSv1.3",
    rejectUnauthorized: true,
  });
}

/** The address of a service. Throws {@link ConfigurationError}. */
export function serviceUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const bare =
    url?.protocol === "https:" &&
    url.pathname === "/" &&
    url.search === "" &&
    url.hash === "" &&
    url.username === "" &&
    url.password === "";
  if (url === undefined || !bare)
    throw new ConfigurationError(`${JSON.stringify(text)} is not a service address; write https://HOST:PORT`);
  // URL hides 443 as the scheme's own port.
  if (/^https:\/\/[^/]*:443\/?$/i.test(text)) Object.defineProperty(url, "port", { value: "443" });
  return url;
}

function readPem(path: string | undefined): string | undefined {
  try {
    return path === undefined ? undefined : readFileSync(path, "utf8");
  } catch (error) {
    throw new ConfigurationError(`${path}: ${(error as Error).message}`);
  }
}
