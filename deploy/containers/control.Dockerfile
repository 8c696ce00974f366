# The coordinator and the CLI: small, and without libtorch.
#
#     docker build -f deploy/containers/control.Dockerfile --build-arg PERITO_COMMIT="$(git describe --always --tags --abbrev=12)" -t perito-control .
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
ARG BASE_IMAGE=debian:12.12-slim

FROM ${RUST_IMAGE} AS chef
RUN cargo install cargo-chef --version 0.1.73 --locked && cargo install cargo-cyclonedx --version 0.5.9 --locked
WORKDIR /build

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
# Dependencies first: this layer stays until Cargo.lock changes.
COPY --from=plan /build/recipe.json recipe.json
RUN cargo chef cook --release --locked --recipe-path recipe.json --package perito-coordinator --package perito-cli
COPY . .
# There is no .git here to ask. What names lines in backtraces stays, compressed: it is most of a program.
ARG PERITO_COMMIT
RUN PERITO_COMMIT="${PERITO_COMMIT}" cargo build --release --locked --package perito-coordinator --package perito-cli \
    && objcopy --compress-debug-sections=zlib target/release/perito-coordinator \
    && objcopy --compress-debug-sections=zlib target/release/perito
# The parts of each program, for scanners (CycloneDX).
RUN cargo cyclonedx --format json --describe binaries --target all --spec-version 1.5 \
    && mkdir /sbom \
    && cp services/coordinator/perito-coordinator_bin.cdx.json services/cli/perito_bin.cdx.json /sbom/

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="perito-control" \
      org.opencontainers.image.description="Perito's coordinator and command line" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin perito
COPY --from=build /build/target/release/perito-coordinator /build/target/release/perito /usr/local/bin/
COPY --from=build /sbom /usr/share/doc/perito/sbom
USER 10001:10001
ENV PERITO_LISTEN=0.0.0.0:8080 PERITO_LOG_FORMAT=json
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["curl", "-fsS", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["perito-coordinator"]
