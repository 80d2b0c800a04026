/** The OpenAPI document, made of the contracts of the routes. */
import { z } from 'zod';
import { nodeFields } from '../access/topology-gate.ts';
import { clusterRoutes } from './cluster.ts';
import { collectionRoutes } from './collections.ts';
import { conflictRoutes } from './conflicts.ts';
import { replicationRoutes } from './replication.ts';
import type { AnswerContract, RouteContract } from './route.ts';
import { vectorRoutes } from './vectors.ts';
import { problem } from './versions.ts';

export const routeContracts: readonly RouteContract[] = [
  ...collectionRoutes,
  ...vectorRoutes,
  ...conflictRoutes,
  ...replicationRoutes,
  ...clusterRoutes,
];

type Json = Record<string, unknown>;

/** Schemas with a name stand once, in the document's components. */
class Components {
  readonly schemas: Json = {};

  /** As what is sent: `z.object` is open then and what has a default may be left out. */
  schemaOf(schema: z.ZodType): Json {
    const { $defs, ...made } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Json;
    for (const [name, definition] of Object.entries(($defs ?? {}) as Json))
      this.schemas[name] = plain(definition);
    const { id } = made;
    if (typeof id !== 'string') return plain(made);
    this.schemas[id] = plain(made);
    return { $ref: `#/components/schemas/${id}` };
  }
}

/** A schema without its name, which is its key, and with references as OpenAPI has them. Not everybody is shown the fields that name nodes. */
function plain(schema: unknown): Json {
  const { id: _, $schema: __, ...own } = inComponents(schema) as Json;
  return own;
}

function inComponents(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inComponents);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key,
      key === '$ref' && typeof inner === 'string'
        ? inner.replace('#/$defs/', '#/components/schemas/')
        : key === 'required' && Array.isArray(inner)
          ? inner.filter((field: string) => !nodeFields.has(field))
          : inComponents(inner),
    ]),
  );
}

function parametersOf(route: RouteContract, components: Components): Json[] {
  const groups = [
    ['path', route.params],
    ['query', route.query],
    ['header', route.headers],
  ] as const;
  return groups.flatMap(([where, group]) =>
    Object.entries(group?.shape ?? {}).map(([name, type]) => {
      const { description, ...schema } = components.schemaOf(type as z.ZodType);
      const required = where === 'path' || !(type as z.ZodType).safeParse(undefined).success;
      return { name, in: where, required, ...(description === undefined ? {} : { description }), schema };
    }),
  );
}

const contentOf = ({ schema, type }: AnswerContract, components: Components): Json =>
  schema === undefined
    ? {}
    : { content: { [type ?? 'application/json']: { schema: components.schemaOf(schema) } } };

function operationOf(route: RouteContract, components: Components): Json {
  const parameters = parametersOf(route, components);
  const responses: Json = Object.fromEntries(
    Object.entries(route.answers).map(([status, given]: [string, AnswerContract]) => [
      status,
      { description: given.description, ...contentOf(given, components) },
    ]),
  );
  return {
    operationId: route.id,
    tags: [route.tag],
    summary: route.summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined
      ? {}
      : {
          requestBody: {
            required: route.bodyOptional !== true,
            content: { 'application/json': { schema: components.schemaOf(route.body) } },
          },
        }),
    responses: { ...responses, default: { $ref: '#/components/responses/Problem' } },
  };
}

export function openApiDocument(routes: readonly RouteContract[] = routeContracts): Json {
  const components = new Components();
  const paths: Record<string, Json> = {};
  for (const route of routes)
    paths[route.path] = { ...paths[route.path], [route.method]: operationOf(route, components) };
  const problemContent = { 'application/problem+json': { schema: components.schemaOf(problem) } };
  return {
    openapi: '3.1.0',
    info: {
      title: 'pgquorum',
      version: '1',
      description:
        'Multi-master pgvector over stock PostgreSQL. Requests refuse fields that are not known; answers may have more, and callers without `topology:read` get none that name nodes.',
    },
    security: [{}, { bearer: [] }, { key: [] }],
    tags: [...new Set(routes.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: components.schemas,
      responses: {
        Problem: { description: 'What went wrong, with a stable code.', content: problemContent },
      },
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        key: { type: 'apiKey', in: 'header', name: 'x-api-key' },
      },
    },
  };
}
