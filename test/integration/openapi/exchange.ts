/** Holds what gateways are asked and answer against their own OpenAPI document. Every test that uses the fixture's `send` does so. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { openApiDocument } from '../../../apps/gateway/src/contract/document.ts';

type Json = Record<string, unknown>;
interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: Json }[];
  readonly requestBody?: { readonly content: Record<string, { readonly schema: Json }> };
  readonly responses: Record<string, { readonly content?: Record<string, { readonly schema: Json }> }>;
}

export const document = openApiDocument();
const paths = document['paths'] as Record<string, Record<string, Operation>>;

const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);
ajv.addSchema(document, 'document');

const compiled = new WeakMap<object, ValidateFunction>();

/** References in it are those of the document. */
function check(schema: Json, value: unknown): string | null {
  let validate = compiled.get(schema);
  if (validate === undefined) {
    const whole = JSON.parse(
      JSON.stringify(schema).replaceAll('"#/components/', '"document#/components/'),
    ) as Json;
    validate = ajv.compile(whole);
    compiled.set(schema, validate);
  }
  return validate(value) ? null : ajv.errorsText(validate.errors, { separator: '\n' });
}

/** Fixed parts go before parameters: `/v1/conflicts/count` is no conflict. */
const templates = Object.keys(paths)
  .toSorted((a, b) => a.split('{').length - b.split('{').length)
  .map((path) => ({
    path,
    pattern: new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`),
  }));

export function operationOf(method: string, path: string): Operation | undefined {
  const found = templates.find(
    ({ path: template, pattern }) =>
      pattern.test(path) && paths[template]![method.toLowerCase()] !== undefined,
  );
  return found === undefined ? undefined : paths[found.path]![method.toLowerCase()];
}

export interface Exchange {
  readonly method: string;
  readonly path: string;
  /** As it was sent, when it was JSON. */
  readonly sent?: unknown;
  readonly status: number;
  readonly contentType: string | null;
  readonly body: unknown;
}

const problemSchema = { $ref: '#/components/schemas/Problem' };

/** What of it is not as the document says; null when nothing is. */
export function exchangeProblem(exchange: Exchange): string | null {
  const { method, path, status, contentType, body } = exchange;
  const [bare, search] = path.split('?', 2) as [string, string | undefined];
  const where = `${method} ${bare} ${status}`;
  const type = contentType?.split(';')[0] ?? null;
  if (status >= 400) {
    const wrong = type === 'application/problem+json' ? check(problemSchema, body) : `is ${type}`;
    return wrong === null ? null : `${where}: ${wrong}`;
  }
  const operation = operationOf(method, bare);
  if (operation === undefined) return `${where}: the document does not have this route`;
  const answer = operation.responses[String(status)];
  if (answer === undefined) return `${where}: the document does not have this status`;
  const said = Object.entries(answer.content ?? {})[0];
  const wrong =
    said === undefined ? (type === null ? null : `has a body of ${type}`) : answerProblem(said, type, body);
  // Of a batch, items that are wrong have errors of their own, and the others are written.
  const sent = hasFailedItems(body) ? undefined : exchange.sent;
  return (
    [wrong, requestProblem(operation, search ?? '', sent)]
      .filter((one) => one !== null)
      .map((one) => `${where}: ${one}`)
      .join('\n') || null
  );
}

function hasFailedItems(body: unknown): boolean {
  const { results, items } = body as { readonly results?: unknown; readonly items?: unknown };
  return [results, items].some((list) => Array.isArray(list) && list.some((one: object) => 'error' in one));
}

function answerProblem(
  [said, { schema }]: [string, { schema: Json }],
  type: string | null,
  body: unknown,
): string | null {
  if (type !== said) return `is ${type}, not ${said}`;
  return check(schema, body);
}

/** What was taken has to be in the document. */
function requestProblem(operation: Operation, search: string, sent: unknown): string | null {
  const known = operation.parameters?.filter((parameter) => parameter.in === 'query') ?? [];
  for (const [name, value] of new URLSearchParams(search)) {
    const parameter = known.find((one) => one.name === name);
    if (parameter === undefined) return `the query parameter ${name} is not in the document`;
    const read = /^(integer|number)$/.test(String(parameter.schema['type'])) ? Number(value) : value;
    const wrong = check(parameter.schema, read);
    if (wrong !== null) return `query parameter ${name}: ${wrong}`;
  }
  const schema = operation.requestBody?.content['application/json']?.schema;
  if (sent === undefined || schema === undefined) return null;
  const wrong = check(schema, sent);
  return wrong === null ? null : `the request's body was taken though: ${wrong}`;
}
