// A TCP proxy on loopback that loses what it is told to lose.

import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

export class CuttingProxy {
  /** How many connections were cut. */
  cuts = 0;
  /** How many connections came. */
  accepted = 0;
  private next: "pass" | "reply" | "accept" | "hang" = "pass";
  private readonly sockets = new Set<Socket>();

  private constructor(private readonly server: Server) {}

  static async start(host: string, port: number): Promise<CuttingProxy> {
    const server = createServer();
    const proxy = new CuttingProxy(server);
    server.on("connection", (client) => proxy.serve(client, host, port));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** The next bytes from the service are lost, and their connection with them: its request got through. */
  loseNextReply(): void {
    this.next = "reply";
  }

  /** The next connection is closed before anything gets through. */
  dropNextConnection(): void {
    this.next = "accept";
  }

  /** Nothing comes back any more. */
  hang(): void {
    this.next = "hang";
  }

  /** Every connection is closed, as by a service that restarts. */
  cutAll(): void {
    for (const socket of this.sockets) socket.destroy();
    this.sockets.clear();
  }

  stop(): void {
    this.server.close();
    this.cutAll();
  }

  private serve(client: Socket, host: string, port: number): void {
    this.accepted += 1;
    if (this.next === "accept") return this.cut(client);
    const service = connect(port, host);
    for (const socket of [client, service]) {
      this.sockets.add(socket.setNoDelay());
      socket.on("error", () => undefined).on("close", () => [client, service].forEach((end) => end.destroy()));
    }
    client.on("data", (bytes) => service.write(bytes));
    service.on("data", (bytes) => {
      if (this.next === "reply") this.cut(client, service);
      else if (this.next !== "hang") client.write(bytes);
    });
  }

  private cut(...ends: Socket[]): void {
    this.next = "pass";
    this.cuts += 1;
    for (const end of ends) end.destroy();
  }
}
