# One file with the components in it, on a base that has a C library and certificates and nothing else to attack.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    make release && cp target/release/brokle /brokle && mkdir -p /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /brokle /usr/local/bin/brokle
COPY --from=build --chown=nonroot:nonroot --chmod=700 /data /data
ENV BROKLE_LISTEN=0.0.0.0:8080 BROKLE_DATA_DIR=/data
VOLUME /data
EXPOSE 8080
# The server drains for up to 35 s after SIGTERM: give it that (`docker stop -t 40`).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s CMD ["/usr/local/bin/brokle", "health"]
USER nonroot
ENTRYPOINT ["/usr/local/bin/brokle"]
CMD ["serve"]
