import 'reflect-metadata';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { loadSync } from '@grpc/proto-loader';
import { expect, test } from '@jest/globals';
import { RequestMethod, type Type } from '@nestjs/common';
import { projectRoot } from '#core/config/project-root.files.ts';
import { loadSettings } from '#core/config/settings.ts';
import { AppModule, type AppParts } from '../app.module.ts';
import { operationOfMethod, operationOfRoute, operations } from './operation-table.ts';

const pathOf = (...parts: string[]): string =>
  `/${parts
    .flatMap((part) => part.split('/'))
    .filter((part) => part !== '')
    .join('/')}`;

/** As Nest declares them to Fastify. */
function declaredRoutes(): string[] {
  const { controllers = [] } = AppModule.with({ settings: loadSettings({}) } as AppParts);
  return (controllers as Type[]).flatMap((controller) => {
    const prefix = Reflect.getMetadata('path', controller) as string;
    const prototype = controller.prototype as Record<string, object>;
    return Object.getOwnPropertyNames(prototype).flatMap((name) => {
      const method = Reflect.getMetadata('method', prototype[name]!) as RequestMethod | undefined;
      if (method === undefined) return [];
      return `${RequestMethod[method]} ${pathOf(prefix, Reflect.getMetadata('path', prototype[name]!) as string)}`;
    });
  });
}

function declaredMethods(): string[] {
  const folder = join(projectRoot, 'libs/core/proto/pgquorum/v1');
  const definition = loadSync(readdirSync(folder), {
    includeDirs: [folder, join(projectRoot, 'libs/core/proto')],
  });
  return Object.entries(definition).flatMap(([service, methods]) =>
    'format' in methods ? [] : Object.keys(methods).map((method) => `${service}/${method}`),
  );
}

test('every route has an entry, and every entry a route', () => {
  const routes = declaredRoutes();
  expect(routes.length).toBeGreaterThan(30);
  const entryOf = (route: string) => operationOfRoute(...(route.split(' ') as [string, string]));
  expect(routes.filter((route) => entryOf(route) === undefined)).toEqual([]);
  const listed = operations.flatMap(({ http = [] }) => http);
  expect(listed.toSorted()).toEqual(routes.toSorted());
});

test('every gRPC method has an entry, and every entry a method', () => {
  const methods = declaredMethods();
  expect(methods.length).toBeGreaterThan(30);
  expect(methods.filter((method) => operationOfMethod(method) === undefined)).toEqual([]);
  const listed = operations.flatMap(({ grpc = [] }) => grpc.map((method) => `pgquorum.v1.${method}`));
  expect(listed.toSorted()).toEqual(methods.toSorted());
});

test('a collection in the path of a route is what its entry looks at', () => {
  for (const { name, http = [], on, needs } of operations)
    for (const route of http) {
      const field = /\/:(collection|name)\b/.exec(route)?.[1];
      if (field !== undefined && !needs.includes('cluster:admin'))
        expect([name, on]).toEqual([name, { in: 'path', field }]);
    }
});

test('what changes something and is not a write of vectors is audited', () => {
  for (const { name, http = [], grpc = [], audited, callers } of operations) {
    expect(http.length + grpc.length).toBeGreaterThan(0);
    const reads = http.every((route) => route.startsWith('GET ')) || name.startsWith('vectors.');
    expect([name, audited !== undefined]).toEqual([name, !reads]);
    if (callers === 'all') expect(http).toHaveLength(1);
  }
});

test('HEAD needs what GET needs', () => {
  expect(operationOfRoute('HEAD', '/v1/cluster/nodes')).toBe(operationOfRoute('GET', '/v1/cluster/nodes'));
});
