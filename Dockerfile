# One image for the gateway and the replicators: they differ in their command. The base is an argument, so that a mirror, a hardened image
# or one made without any registry can be used: docker build --build-arg NODE_IMAGE=… .
ARG NODE_IMAGE=node:24-bookworm-slim

FROM ${NODE_IMAGE} AS manifest
WORKDIR /app
COPY package.json package-lock.json .npmrc ./

# Nothing that is needed here or at run time comes from an install script, so none gets to run.
FROM manifest AS modules
RUN npm ci --omit=dev --ignore-scripts

FROM manifest AS build
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY libs libs
COPY apps apps
COPY scripts/bundle.mjs scripts/
RUN npx tsc -p tsconfig.build.json && node scripts/bundle.mjs

FROM ${NODE_IMAGE}
ENV NODE_ENV=production
WORKDIR /app
COPY package.json ./
COPY --from=modules /app/node_modules node_modules
COPY migrations migrations
COPY libs/core/proto libs/core/proto
COPY apps/gateway/dashboard apps/gateway/dashboard
COPY --from=build /app/dist dist
USER node
EXPOSE 8080 50051
STOPSIGNAL SIGTERM
CMD ["node", "dist/apps/gateway/src/main.js"]
