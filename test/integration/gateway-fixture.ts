/** A gateway inside the test's process, in front of databases of the test's own, and a client that knows only HTTP. */
import pg from 'pg';
import { loadSettings, type Settings } from '#core/config/settings.ts';
import { createLogger } from '#core/observability/logger.process.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { createGateway, type Gateway } from '../../apps/gateway/src/gateway.ts';
import { exchangeProblem } from './openapi/exchange.ts';

export interface NodeUrl {
  readonly name: string;
  readonly url: string;
  readonly zone: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Parsed when it is JSON. */
  readonly body: unknown;
}

export interface Send {
  readonly body?: unknown;
  /** Sent as it is. */
  readonly raw?: string | Buffer<ArrayBuffer>;
  readonly headers?: Record<string, string>;
}

export interface TestGateway extends AsyncDisposable {
  readonly gateway: Gateway;
  readonly nodes: readonly NodeUrl[];
  readonly log: readonly string[];
  send(method: string, path: string, send?: Send): Promise<Answer>;
  /** One statement on a node, as pgquorum's own role. */
  sql<R extends pg.QueryResultRow>(node: number, text: string, values?: unknown[]): Promise<R[]>;
}

export function settingsFor(
  nodes: readonly NodeUrl[],
  cluster: string,
  extra: Record<string, string> = {},
): Settings {
  return loadSettings({
    PGQUORUM_NODES: JSON.stringify(nodes.map(({ name, url, zone }) => ({ name, url, zone }))),
    PGQUORUM_CLUSTER: cluster,
    PGQUORUM_HTTP_PORT: '0',
    PGQUORUM_GRPC_PORT: '0',
    // Most tests look at one master after another.
    PGQUORUM_CONSISTENCY_LEVEL: 'one',
    ...extra,
  });
}

export interface GatewayOptions {
  readonly nodes: readonly NodeUrl[];
  readonly cluster: string;
  readonly env?: Record<string, string>;
  /** Also disposed of, after the gateway. */
  readonly below?: AsyncDisposable;
}

export async function startGateway({ nodes, cluster, env, below }: GatewayOptions): Promise<TestGateway> {
  const log: string[] = [];
  const gateway = await createGateway(
    settingsFor(nodes, cluster, env),
    createLogger({ app: 'test', level: 'debug', write: (line) => log.push(line) }),
  );
  const base = `http://127.0.0.1:${gateway.httpPort}`;
  return {
    gateway,
    nodes,
    log,
    send: async (method, path, { body, raw, headers = {} } = {}) => {
      const text = raw ?? (body === undefined ? undefined : JSON.stringify(body));
      const response = await fetch(`${base}${path}`, {
        method,
        headers: { ...(text === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
        ...(text === undefined ? {} : { body: text }),
      });
      const answer = await response.text();
      const contentType = response.headers.get('content-type');
      const isJson = /json/.test(contentType ?? '');
      const parsed = isJson && answer !== '' ? (JSON.parse(answer) as unknown) : answer;
      const problem =
        method === 'HEAD' || method === 'OPTIONS'
          ? null
          : exchangeProblem({ method, path, sent: body, status: response.status, contentType, body: parsed });
      if (problem !== null) throw new Error(`not as the OpenAPI document has it: ${problem}`);
      return { status: response.status, headers: response.headers, body: parsed };
    },
    sql: async <R extends pg.QueryResultRow>(node: number, text: string, values?: unknown[]) => {
      const client = new pg.Client(nodes[node]!.url);
      await client.connect();
      try {
        return (await client.query<R>(text, values)).rows;
      } finally {
        await client.end();
      }
    },
    [Symbol.asyncDispose]: async () => {
      await gateway.close();
      await below?.[Symbol.asyncDispose]();
    },
  };
}

/** A gateway in front of fresh databases on the shared server. */
export async function freshGateway(
  options: { readonly count?: number; readonly env?: Record<string, string> } = {},
): Promise<TestGateway> {
  const fresh = await freshNodes({ count: options.count ?? 3 });
  try {
    return await startGateway({
      nodes: fresh.nodes,
      cluster: fresh.cluster,
      below: fresh,
      ...(options.env ? { env: options.env } : {}),
    });
  } catch (cause) {
    await fresh[Symbol.asyncDispose]();
    throw cause;
  }
}
