"""Every option with its default: the usual recipe for KITTI networks (640x192, batch 12, Adam 1e-4).

Experiments start from `base.get_config()` and change what differs. `robustdepth.runtime.config` checks keys, types,
ranges and choices against this file. Use tuples, never lists, so that the command line can override them.
"""

from ml_collections import ConfigDict

# What numbers may be; robustdepth/runtime/schema.py explains the notation. Every number has a range. 2147483647 is
# the largest that a step's counter reaches.
RANGES = {
    "seed": "[0, 2147483647]",
    "image_size": "2 x [16, 16384]",
    "batch_size": "[1, 65536]",
    "data.world_share": "[0, 1]",
    "data.frame_step": "[1, 2147483647]",
    "data.grey": "[0, 1]",
    "data.jitter": "4 x [0, 1]",
    "data.camera_effects": "[0, 1]",
    "data.threads": "[0, 1024]",
    "data.max_bad_images": "[0, 2147483647]",
    "model.decoder_width": "(0, 16]",
    "model.pose_scale": "(0, 1000]",
    "model.scales": "[1, 5]",
    "model.output_stride": "[1, 8]",
    "model.min_depth": "[1e-06, 1e+06]",
    "model.max_depth": "[1e-06, 1e+06]",
    "model.initial_depth": "[1e-06, 1e+06]",
    "model.canonical_focal": "[0, 100]",
    "loss.*": "[0, inf) or a schedule",
    "reprojection.ssim_share": "[0, 1]",
    "texture.*": "[0, 1]",
    "semantics.stride": "[4, 16]",
    "semantics.width": "[1, 65536]",
    "semantics.heads": "[1, 65536]",
    "semantics.dropped": "[0, 1)",
    "stereo.exposure": "[0, 1)",
    "stereo.noise": "[0, 1]",
    "stereo.max_disparity": "[0, 16384]",
    "selective.temperature": "2 x (0, inf)",
    "selective.argmin_share": "[0, 1]",
    "optimizer.learning_rate": "(0, inf)",
    "optimizer.steps": "[0, 2147483647]",
    "optimizer.epochs": "[0, 10000]",
    "optimizer.rate_batch": "[0, 65536]",
    "optimizer.encoder_factor": "[0, inf)",
    "optimizer.warmup_steps": "[0, 2147483647]",
    "optimizer.drops": "* x (0, 1)",
    "optimizer.drop_factor": "(0, 1]",
    "optimizer.weight_decay": "[0, inf)",
    "optimizer.clip_norm": "[0, inf)",
    "optimizer.ema_decay": "[0, 1)",
    "optimizer.accumulate": "[1, 65536]",
    "log.*": "[1, 2147483647]",
    "checkpoint.*": "[1, 2147483647]",
    "validate.every": "[1, 2147483647]",
    "validate.count": "[0, 2147483647]",
    "health.max_skipped_in_row": "[1, 2147483647]",
    "health.restarts": "[0, 2147483647]",
    "health.min_spread": "[0, inf)",
    "health.max_at_limits": "[0, 1]",
    "health.max_auto_mask": "[0, 1]",
    "health.max_translation": "(0, inf)",
    "health.graph_entropy": "2 x [0, 1]",
    "health.mask_proxy": "2 x [0, 1]",
}


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="base",
            # "segmentation": the semantic expert, on the procedural world's labels; "stereo": the stereo teacher
            task="depth",
            seed=0,
            # Networks to start from: "bundled", a workdir, WORKDIR/checkpoints/STEP, an exported file or published ones
            # (docs/published.md). What fits is taken, in the place of config.model.pretrained; a report says how much.
            init_from="",
            image_size=(192, 640),  # height, width that the networks see; multiples of 16
            batch_size=12,  # global, over all devices
            data=dict(
                # "none" (the procedural world alone), "kitti_raw", "kitti_odometry", "frames" (own footage), "packed"
                name="none",
                root="",  # folder of the recordings
                split="",  # split file with lines "folder frame l|r"; empty: every frame that has the wanted views
                sequences=(),  # drives or odometry sequences to use; empty: all found
                views=("previous", "next"),  # source views: "previous", "next", "stereo"
                world_share=0.0,  # share of every batch that the procedural world renders; 1.0 with name="none"
                frame_step=1,  # distance between target and temporal sources, in frames
                grey=0.0,  # probability that the networks see a sample in grey; 1: also in evaluation and prediction
                flip=True,
                jitter=(0.2, 0.2, 0.2, 0.1),  # brightness, contrast, saturation, hue; applied with p = 0.5
                camera_effects=0.0,  # strength of blur, exposure, noise, ... of cameras drawn at random, up to 1
                threads=4,  # decoding threads
                max_bad_images=16,  # unreadable images that training replaces and counts before it stops
            ),
            model=dict(
                # resnet18, resnet34, resnet50, resnet_tiny, efficientnet_lite0, dinov2_vits14, dinov2_vitb14,
                # with their own decoder (docs/published.md) depth_anything_v2_small, depth_anything_v2_base,
                # lite_mono_tiny, lite_mono_small, lite_mono, lite_mono_8m, monovit
                encoder="resnet18",
                normalisation="imagenet",  # of the images that ResNets see; "monodepth2": for networks trained so
                pretrained="",  # encoder weights: a .pth or .safetensors file; "package": the installed Lite0 ones
                freeze_encoder=False,  # keep the depth encoder's weights and statistics as they were loaded
                # Normalise by the statistics that were loaded, in both networks: batches of one short clip have others.
                freeze_statistics=False,
                decoder_width=1.0,  # multiplies the decoder's channels (256, 128, 64, 32, 16)
                pose_encoder="resnet18",
                pose_pretrained="",
                pose_scale=0.01,
                scales=4,  # disparities that the losses see, each half the size of the one before
                mask_decoder="none",  # for selective distillation: "loss", or "concatenated": depth sees the masks
                output_stride=1,  # of the finest disparity: 1 is full size; 2 or 4 train faster
                min_depth=0.1,
                max_depth=100.0,
                initial_depth=10.0,  # depth of an untrained network
                # Focal length, in widths of the image, of the camera whose metres the network learns: cameras of other
                # focal lengths are then right in metres, too; 0: metres are taken as they are. KITTI's is 0.58.
                canonical_focal=0.0,
                remat="none",  # what backward passes compute again: "none", all but "convolutions", or "full": all
                dtype="float32",  # compute type of the networks: float32 or bfloat16; geometry and losses stay float32
            ),
            # Weights; 0 switches a term off. A weight may be a schedule "start:end:steps", set in an experiment's file.
            loss=ConfigDict(
                dict(
                    photometric=1.0,
                    smoothness=1e-3,  # divided by 2^k at scale k
                    geometric=0.0,
                    velocity=0.0,
                    texture_photometric=0.0,  # of the depth predicted from a view of changed texture; 1 is usual
                    texture_consistency=0.0,  # between its depth and the clear one's, over 2^k at scale k; 0.1 is usual
                    weather_photometric=0.0,  # both again, of a view under weather
                    weather_consistency=0.0,
                    semantics_edge=0.0,  # distillation of a semantic expert; "0:0.05:2000", "0:0.05:2000" and
                    semantics_node=0.0,  # "0:0.025:2000" are usual
                    semantics_anchor=0.0,
                    proxy=0.0,  # selective distillation: depth towards the proxy, inside the mask; 0.1 is usual
                    mask=0.0,  # what the mask decoder learns by; 1 is usual
                    transfer_feature=0.0,  # likeness to the stereo network's geometry features; 0.1 is usual
                    transfer_distribution=0.0,  # ... and to its distribution over disparities; 0.05 is usual
                    truth=0.0,  # true depth of the procedural world as the teacher: error of log depth; 1 is usual
                    truth_shape=0.0,  # ... up to one factor an image; 0.5 is usual
                    truth_gradient=0.0,  # ... and of its changes between neighbouring pixels; 0.5 is usual
                    truth_motion=0.0,  # the world's true camera motion as the pose network's teacher; 1 is usual
                    start=0.0,  # recordings' depth near that of the networks in init_from; 0.1 is usual
                    disparity=0.0,  # task "stereo": error against the procedural world's true disparity
                    hints=0.0,  # task "stereo": towards semi-global matching, where that explains the views better
                ),
                type_safe=False,
            ),
            reprojection=dict(
                # The base: what a view rebuilt from another is compared by.
                ssim_share=0.85,  # of the photometric error; the rest is absolute difference
                auto_mask=True,  # pixels that no motion explains better than standing still count nothing
                min_reprojection=True,  # per pixel the source that explains it best; False: the mean over sources
                smooth_edges="image",  # what may carry depth edges: "image", or its Retinex "illumination"
            ),
            second_view=dict(
                # A changed view of the target beside the clear one: of texture, or under weather.
                bidirectional=True,  # the better of both depths teaches the other; False: the clear one always
            ),
            texture=dict(
                # The view of changed texture, drawn where a texture loss is on.
                illumination="guided",  # Retinex estimate: "guided", "multi_scale" or "total_variation"
                missing=0.5,  # probability that cells lose their texture; 0 switches this change off
                interfering=0.5,  # ... that another sample's texture is blended in
                jitter=0.5,  # ... that the illumination changes
                warmup=0.25,  # fraction of the training over which the changes grow from 0.3 to full strength
            ),
            semantics=dict(
                # world, dinov2_vits14, dinov2_vitb14, depth_anything_v2_small, ..._base, segformer_b0, espnetv2
                expert="world",
                weights="",  # the expert's weight file; empty: the one that comes with the package ("world" alone)
                cache="",  # folder for its features: filled once, then read; empty: they are computed in every step
                graph="learned",  # how features are compared: "learned" graph, "fixed" affinities, "none" (cosine)
                stride=16,  # of the student's features, 4, 8 or 16
                views=("clean", "perturbed"),  # that the student learns in; the expert always sees the clean one
                width=128,  # of the graph's nodes
                heads=4,
                dropped=0.3,  # share of the expert's nodes that the anchor loss hides and rebuilds
            ),
            stereo=dict(
                # The stereo network: what task "stereo" trains.
                network="light",  # "light" (two CPU cores) or "gwcnet_g"
                exposure=0.0,  # how much brightness and contrast differ between the views that it sees in training
                noise=0.0,  # largest deviation of the noise that each of them has
                max_disparity=0,  # pixels, a multiple of 16; 0: 192 pixels of a 1242 pixels wide image, in proportion
                pretrained="",  # weights to start from: a workdir, an exported .safetensors, or GwcNet's .ckpt
            ),
            selective=dict(
                # Selective distillation of stereo knowledge, where config.loss.proxy has a weight.
                # "stereo_net" (teacher), "sgm" (OpenCV, in the loader), "files" (folder), or "truth" (the world's own
                # depth, the best possible proxy)
                proxy="stereo_net",
                teacher="",  # workdir or .safetensors file of a stereo network; empty: the package's own
                folder="",  # what `python -m robustdepth.prepare proxies` wrote
                mask="learned",  # "off" (the proxy everywhere), "argmin", "learned", "independent"
                temperature=(1.0, 0.3),  # of the straight-through masks, at the start and at the end
                argmin_share=0.1,  # of the training that argmin masks while the mask decoder learns
            ),
            weather=dict(
                # Conditions of the weather view, rendered where a weather loss is on. "|" separates alternatives: each
                # sample draws one; "+" applies several in order; "(0.2-1.0)" is a range of severities, 0.3-1.0 without
                # it. docs/conditions.md shows all conditions.
                spec="fog|rain|snow|night|dusk|rain+night",
            ),
            optimizer=dict(
                learning_rate=1e-4,
                # The batch that learning_rate is meant for: another one's rate is learning_rate x sqrt(batch_size /
                # rate_batch); 0: the rate is taken as it is.
                rate_batch=0,
                steps=66_000,  # 0: as many as `epochs` needs
                epochs=0.0,  # passes over the recordings; 0: `steps` counts
                encoder_factor=1.0,  # on the depth encoder's rate
                warmup_steps=0,
                schedule="drops",  # after the warm-up: "drops", or "cosine" to 0
                drops=(0.75,),  # fractions of the training at which the rate is multiplied by drop_factor
                drop_factor=0.1,
                weight_decay=0.0,
                clip_norm=1.0,  # global gradient norm; 0: no clipping
                ema_decay=0.0,  # of averaged parameters, lower at first, over a tenth of the steps; 0: no averaging
                accumulate=1,  # parts of the batch that are seen one after another, to need less memory
            ),
            sharding=dict(
                axis="data",  # the mesh has one, over all devices, for batches and for what the rules split
                # (regex on the parameter's path, partition spec); the first match counts. ((".*", "longest"),) splits
                # parameters and optimiser state over all devices, see docs/distributed.md.
                rules=((".*", ()),),
                # Batch normalisation by the "batch" of all devices, or by each "device"'s own rows, as PyTorch's
                # DistributedDataParallel without SyncBatchNorm: layers then wait for no other device.
                statistics="batch",
            ),
            log=dict(every=50, images_every=2_000),
            checkpoint=dict(every=2_000, keep=3),
            validate=dict(
                # Evaluates while training, as robustdepth.evaluate does, and keeps the best networks in WORKDIR/best.
                # "none", or a protocol of depth in images (docs/evaluation.md): "world", "kitti_eigen", ...
                protocol="none",
                every=2_000,  # steps; the last step is evaluated, too
                metric="abs_rel",  # that says which networks are the best; of those that the protocol's report has
                count=32,  # of its frames: the first worlds, recordings at even distances; 0: all
                data_root="",  # as for robustdepth.evaluate
                split="",
            ),
            health=dict(
                max_skipped_in_row=5,
                restarts=0,  # how often training begins again by itself when depth has surely collapsed
                min_spread=0.02,
                max_at_limits=0.3,  # share of depth at model.min_depth or model.max_depth
                max_auto_mask=0.98,
                max_translation=20.0,
                graph_entropy=(0.3, 0.85),
                mask_proxy=(0.05, 0.95),
            ),
        )
    )
