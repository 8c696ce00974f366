# The worker, with the libtorch of a device family.
#
#     docker build -f deploy/containers/worker.Dockerfile --target worker-cpu  -t perito-worker:cpu  .
#     docker build -f deploy/containers/worker.Dockerfile --target worker-cuda -t perito-worker:cuda .
#
# worker-cpu takes the libtorch that `make setup` takes. worker-cuda takes the one of PyPI's torch wheel whole, with the CUDA libraries it
# depends on; the host needs only the driver and the container toolkit.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
ARG BASE_IMAGE=debian:12.12-slim

FROM ${RUST_IMAGE} AS chef
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make cmake nasm curl unzip python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN cargo install cargo-chef --version 0.1.73 --locked && cargo install cargo-cyclonedx --version 0.5.9 --locked
WORKDIR /build

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS sbom
COPY . .
# The parts of the program, for scanners (CycloneDX).
RUN cargo cyclonedx --format json --describe binaries --target all --spec-version 1.5 \
    && mkdir /sbom \
    && cp services/worker/perito-worker_bin.cdx.json /sbom/

# ---- libtorch, by device family ------------------------------------------------------------------------------------------

FROM chef AS libtorch-cpu
COPY deploy/local/common.sh deploy/local/libtorch deploy/local/libtorch.txt deploy/local/
RUN deploy/local/libtorch && mv "$(readlink -f .local/libtorch)" /opt/libtorch

FROM chef AS libtorch-cuda
# The wheel names the CUDA wheels that it depends on; all of their libraries go beside its own, where its rpath finds them.
RUN python3 -m venv /venv \
    && /venv/bin/pip install --no-cache-dir torch==2.13.0 \
    && packages="$(/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && mkdir /opt/libtorch \
    && mv "$packages/torch/include" "$packages/torch/lib" "$packages/torch/share" /opt/libtorch/ \
    && find "$packages/nvidia" -name '*.so*' -exec mv -t /opt/libtorch/lib/ {} + \
    && rm -rf /venv

# ---- The binary, once for each; what names lines in backtraces stays, compressed: it is most of it ------------------------

FROM chef AS build-cpu
COPY --from=libtorch-cpu /opt/libtorch /opt/libtorch
ENV LIBTORCH=/opt/libtorch
COPY --from=plan /build/recipe.json recipe.json
RUN cargo chef cook --release --locked --recipe-path recipe.json --package perito-worker
COPY . .
ARG PERITO_COMMIT
RUN PERITO_COMMIT="${PERITO_COMMIT}" cargo build --release --locked --package perito-worker \
    && objcopy --compress-debug-sections=zlib target/release/perito-worker

FROM chef AS build-cuda
COPY --from=libtorch-cuda /opt/libtorch /opt/libtorch
ENV LIBTORCH=/opt/libtorch
COPY --from=plan /build/recipe.json recipe.json
RUN cargo chef cook --release --locked --recipe-path recipe.json --package perito-worker
COPY . .
ARG PERITO_COMMIT
RUN PERITO_COMMIT="${PERITO_COMMIT}" cargo build --release --locked --package perito-worker \
    && objcopy --compress-debug-sections=zlib target/release/perito-worker

# ---- The images -----------------------------------------------------------------------------------------------------------

FROM ${BASE_IMAGE} AS worker
LABEL org.opencontainers.image.title="perito-worker" \
      org.opencontainers.image.description="Perito's worker: trains and scores on one device" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin perito
COPY --from=sbom /sbom /usr/share/doc/perito/sbom
USER 10001:10001
# The disk cache of training goes to the folder for temporary files: mount a volume there.
ENV PERITO_WORKER_LISTEN=0.0.0.0:8081 PERITO_LOG_FORMAT=json TMPDIR=/tmp
EXPOSE 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["curl", "-fsS", "http://127.0.0.1:8081/healthz"]
ENTRYPOINT ["perito-worker"]

FROM worker AS worker-cuda
COPY --from=libtorch-cuda /opt/libtorch/lib /opt/libtorch/lib
COPY --from=build-cuda /build/target/release/perito-worker /usr/local/bin/
# What the container toolkit shows of the host's driver.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM worker AS worker-cpu
COPY --from=libtorch-cpu /opt/libtorch/lib /opt/libtorch/lib
COPY --from=build-cpu /build/target/release/perito-worker /usr/local/bin/
ENV PERITO_DEVICE=cpu
