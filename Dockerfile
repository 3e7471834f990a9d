# The serving image: the server, ONNX Runtime, the shared libraries both load, their licences.
# No shell, no package manager, no tools that make or sign models, no root.
#
#   docker build --tag vitalgate .
#   docker run --read-only --cap-drop ALL --publish 8443:8443 \
#     --volume /srv/vitalgate:/etc/vitalgate:ro --volume /srv/audit:/var/lib/vitalgate vitalgate
#
# Release builds pin the base image by digest as well: --build-arg BASE=rust:…@sha256:…

ARG BASE=rust:1.95.0-slim-bookworm
# hadolint ignore=DL3006
FROM ${BASE} AS build

# Debian keeps one version of each package in a release: a pinned one is gone with the next fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libstdc++6 python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
# By hash; on its own, so that a change of our code does not fetch it again.
COPY .ci/fetch-onnxruntime .ci/
RUN python3 .ci/fetch-onnxruntime /onnxruntime
COPY . .
RUN cargo build --release --locked --no-default-features --bin vitalgate
RUN python3 .ci/image target/release/vitalgate /onnxruntime /image \
    && mkdir -p /image/etc/vitalgate /image/var/lib/vitalgate \
    && chown 65532:65532 /image/var/lib/vitalgate

FROM scratch
COPY --from=build /image /
ENV ORT_DYLIB_PATH=/opt/vitalgate/libonnxruntime.so.1.31.1
USER 65532:65532
WORKDIR /var/lib/vitalgate
EXPOSE 8443 8080
ENTRYPOINT ["/opt/vitalgate/vitalgate"]
CMD ["serve", "--config", "/etc/vitalgate/vitalgate.toml"]
